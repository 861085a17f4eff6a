"""OpenVINO: one paged graph on its CPU, or static graphs over lanes on any of its devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    fitting_manifest,
    lane_needs,
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
from glmserve.graphs.runner import GraphRunner, InspectableGraphRunner, lane_runner
from glmserve.model_config import ModelConfig
from glmserve.runner.limits import CacheMemory, MemoryNeeds, plan_limits, step_tokens

if TYPE_CHECKING:
    import openvino

    from glmserve.graphs.paged import PagedModel

_STEP_TOKENS = 512
_MAX_DRAFTS = 64
_BLOCK_SIZE = 32  # of OpenVINO's paged attention on a CPU
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

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        manifest = fitting_manifest(config, ("openvino",))
        if manifest.attention == "lanes":
            return lane_needs(config, model, manifest)
        available, weights = available_memory(), manifest.weight_bytes
        token_bytes = _token_bytes(model, _cache_precision(config, manifest.dtype))
        return _PagedNeeds(
            dtype=manifest.dtype,
            num_parameters=manifest.num_parameters,
            weights=weights,
            workspace=0,
            available=available,
            cache=CacheMemory(available - weights, _CACHE_SHARE, token_bytes, _BLOCK_SIZE),
            max_step_tokens=step_tokens(config, model, _STEP_TOKENS),
            manifest=manifest,
        )

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> GraphRunner:
        import openvino

        core = openvino.Core()
        opened = open_compiled(config, ("openvino",), progress)
        places = [device_named(core, name) for name in places_of(config, opened.manifest, "CPU")]
        if opened.manifest.attention == "paged":
            return _paged_runner(core, places[0], config, opened)
        return _lane_runner(core, places, config, opened)


@dataclass(frozen=True)
class _PagedNeeds(MemoryNeeds):
    """What a paged graph needs, before it is loaded."""

    manifest: Manifest

    def plan(self, config: RunnerConfig, model: ModelConfig) -> RunnerLimits:
        context_length(config, self.manifest)
        return super().plan(config, replace(model, max_context=self.manifest.total_len))


def _token_bytes(model: ModelConfig, precision: str) -> int:
    """Bytes of one token's K and V on OpenVINO's CPU. With 8 bits, each row of a value and each
    column of a block of keys has a scale and a zero point in float32."""
    numbers = 2 * model.num_layers * model.num_kv_heads * model.head_dim
    if precision != "u8":
        return numbers * (4 if precision == "f32" else 2)
    key = model.head_dim * (_BLOCK_SIZE + 8) // _BLOCK_SIZE
    return model.num_layers * model.num_kv_heads * (key + model.head_dim + 8)


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
    properties = _cpu_properties(manifest, threads) if place == "CPU" else {}
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
    ops = sampling_ops(config, opened.model)
    return InspectableGraphRunner(model, ops, config, info, model.inspect)


def _lane_runner(
    core: openvino.Core, places: Sequence[str], config: RunnerConfig, opened: CompiledModel
) -> GraphRunner:
    from glmserve.graphs.openvino_static import OpenVinoRuntime

    manifest, threads = opened.manifest, threads_of(config, default_threads, opened.manifest)
    limits = lane_needs(config, opened.model, manifest).plan(config, opened.model)
    on_cpu = _cpu_properties(manifest, threads)
    runtimes = [OpenVinoRuntime(core, place, on_cpu if place == "CPU" else {}) for place in places]
    model = LaneModel(
        opened.folder,
        manifest,
        opened.model,
        runtimes,
        at_once=limits.steps_in_flight > 1,
    )
    info = RunnerInfo(
        limits=limits,
        device=_description(places, threads),
        dtype=manifest.dtype,
        num_parameters=manifest.num_parameters,
        weight_bytes=manifest.weight_bytes,
        kv_cache_bytes=model.cache_bytes,
    )
    return lane_runner(model, sampling_ops(config, opened.model), config, info)


def _description(places: Sequence[str], threads: int) -> str:
    used = places[:1] if len(set(places)) == 1 else places
    return f"OpenVINO {', '.join(used)}, {count_of(threads, 'thread')}"


def _cpu_properties(manifest: Manifest, threads: int) -> dict[str, object]:
    """OpenVINO's properties of any graph on its CPU; other devices decide by themselves."""
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
    return msgspec.structs.replace(
        limits, max_drafts=_MAX_DRAFTS, resolves_placeholders=True, waits_for_steps=True
    )
