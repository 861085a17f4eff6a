"""OpenVINO: one paged graph on its CPU, or static graphs over lanes on any of its devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.contract.step import RunnerInfo, RunnerLimits
from glmserve.devices.base import DeviceInfo
from glmserve.devices.compiled import (
    CompiledModel,
    context_length,
    count_of,
    lane_limits,
    open_compiled,
    places_of,
    sampling_ops,
    threads_of,
)
from glmserve.devices.cpu import default_threads
from glmserve.devices.host import available_memory
from glmserve.errors import OptionError
from glmserve.graphs.lanes import LaneModel
from glmserve.graphs.manifest import Manifest
from glmserve.graphs.runner import GraphRunner
from glmserve.runner.limits import CacheMemory, plan_limits, step_tokens

if TYPE_CHECKING:
    import openvino

    from glmserve.graphs.paged import PagedModel

_STEP_TOKENS = 512
_MAX_DRAFTS = 64
_CACHE_SHARE = 0.25
_ACTIVATION_GROUP = 32
"""Columns that share a scale of rounded activations."""
_PRECISIONS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class OpenVinoDevice:
    """A device of OpenVINO; `openvino:NAME` is that one, otherwise the CPU."""

    name = "openvino"

    def probe(self) -> DeviceInfo:
        if find_spec("openvino") is None:
            return DeviceInfo(
                False, "the openvino package is missing; pip install 'glmserve[openvino]'"
            )
        import openvino

        devices = ", ".join(openvino.Core().available_devices)
        version = openvino.__version__.partition("-")[0]
        return DeviceInfo(True, f"OpenVINO {version} ({devices}), for compiled folders")

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> GraphRunner:
        import openvino

        core = openvino.Core()
        opened = open_compiled(config, ("openvino",), progress)
        places = [device_named(core, name) for name in places_of(config, opened.manifest, "CPU")]
        if opened.manifest.attention == "paged":
            return _paged_runner(core, places[0], config, opened)
        return _lane_runner(core, places, config, opened)


def device_named(core: openvino.Core, name: str) -> str:
    """OpenVINO's name of a device, such as CPU, GPU or NPU.

    Raises:
        OptionError: there is none of that name here.
    """
    known = core.available_devices
    for device in known:
        if name.upper() in (device, device.partition(".")[0]):
            return name.upper()
    raise OptionError(
        f"--device openvino:{name}: OpenVINO finds no such device here; it finds {', '.join(known)}"
    )


def _paged_runner(
    core: openvino.Core, place: str, config: RunnerConfig, opened: CompiledModel
) -> GraphRunner:
    from glmserve.graphs.paged import PagedModel

    manifest, threads = opened.manifest, threads_of(config, default_threads, opened.manifest)
    properties = _properties(manifest, threads)
    properties["KV_CACHE_PRECISION"] = _cache_precision(config, manifest.dtype)
    model = PagedModel(core, opened.folder, opened.model, place, properties)
    limits = _paged_limits(config, opened, model)
    model.allocate(limits.num_blocks)
    info = RunnerInfo(
        limits=limits,
        device=_description([place], threads),
        dtype=manifest.dtype,
        num_parameters=manifest.num_parameters,
        weight_bytes=manifest.weight_bytes,
        kv_cache_bytes=limits.num_blocks * model.block_bytes,
    )
    return GraphRunner(model, sampling_ops(config, opened.model), config, info)


def _lane_runner(
    core: openvino.Core, places: Sequence[str], config: RunnerConfig, opened: CompiledModel
) -> GraphRunner:
    from glmserve.graphs.openvino_static import OpenVinoRuntime

    manifest, threads = opened.manifest, threads_of(config, default_threads, opened.manifest)
    limits = lane_limits(config, manifest)
    on_cpu = _properties(manifest, threads)
    runtimes = [OpenVinoRuntime(core, place, on_cpu if place == "CPU" else {}) for place in places]
    model = LaneModel(opened.folder, manifest, opened.model, runtimes)
    info = RunnerInfo(
        limits=limits,
        device=_description(places, threads),
        dtype=manifest.dtype,
        num_parameters=manifest.num_parameters,
        weight_bytes=manifest.weight_bytes,
        kv_cache_bytes=model.caches.num_bytes,
    )
    return GraphRunner(model, sampling_ops(config, opened.model), config, info)


def _description(places: Sequence[str], threads: int) -> str:
    used = places[:1] if len(set(places)) == 1 else places
    return f"OpenVINO {', '.join(used)}, {count_of(threads, 'thread')}"


def _properties(manifest: Manifest, threads: int) -> dict[str, object]:
    """OpenVINO's properties of any graph on its CPU."""
    rounds_activations = manifest.quantization in ("w8a8", "w4a8")
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # the server process needs its share of the cores
        "INFERENCE_PRECISION_HINT": _PRECISIONS[manifest.dtype],
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": _ACTIVATION_GROUP if rounds_activations else 0,
    }


def _cache_precision(config: RunnerConfig, dtype: str) -> str:
    """OpenVINO's name of the paged cache's number format.

    Raises:
        OptionError: its CPU device has no such KV cache.
    """
    if config.kv_cache_dtype == "fp8":
        raise OptionError("--kv-cache-dtype fp8: OpenVINO's CPU has none; take int8 or auto")
    return "u8" if config.kv_cache_dtype == "int8" else _PRECISIONS[dtype]


def _paged_limits(config: RunnerConfig, opened: CompiledModel, model: PagedModel) -> RunnerLimits:
    context_length(config, opened.manifest)
    token_bytes = model.block_bytes // model.block_size
    memory = CacheMemory(available_memory(), _CACHE_SHARE, token_bytes, model.block_size)
    described = replace(opened.model, max_context=opened.manifest.total_len)
    max_step_tokens = step_tokens(config, described, _STEP_TOKENS)
    limits = plan_limits(config, described, memory, max_step_tokens)
    return msgspec.structs.replace(limits, max_drafts=_MAX_DRAFTS, resolves_placeholders=True)
