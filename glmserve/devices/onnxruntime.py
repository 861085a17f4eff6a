"""onnxruntime: static graphs over lanes, on one execution provider."""

from __future__ import annotations

from importlib.util import find_spec

from glmserve.config import GraphTarget, ReportProgress, RunnerConfig
from glmserve.contract.step import RunnerInfo
from glmserve.devices.base import DeviceInfo
from glmserve.devices.compiled import (
    count_of,
    fitting_manifest,
    lane_needs,
    open_compiled,
    places_of,
    sampling_ops,
    threads_of,
)
from glmserve.devices.cpu import default_threads
from glmserve.graphs.lanes import LaneModel
from glmserve.graphs.runner import GraphRunner, lane_runner
from glmserve.model_config import ModelConfig
from glmserve.runner.limits import MemoryNeeds

_RUNTIMES: tuple[GraphTarget, ...] = ("onnxruntime", "onnx")
"""What `glmserve compile --for` writes for this device."""


class OnnxRuntimeDevice:
    """An execution provider of onnxruntime; `onnxruntime:NAME` is that one, otherwise the CPU's."""

    name = "onnxruntime"

    def probe(self) -> DeviceInfo:
        if find_spec("onnxruntime") is None:
            return DeviceInfo(
                False, "the onnxruntime package is missing; pip install 'glmserve[onnxruntime]'"
            )
        import onnxruntime

        providers = ", ".join(onnxruntime.get_available_providers())
        return DeviceInfo(
            True, f"onnxruntime {onnxruntime.__version__} ({providers}), for compiled folders"
        )

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        return lane_needs(config, model, fitting_manifest(config, _RUNTIMES))

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> GraphRunner:
        from glmserve.graphs.onnxruntime import OnnxRuntime, describe, provider_named

        opened = open_compiled(config, _RUNTIMES, progress)
        manifest = opened.manifest
        providers = [provider_named(name) for name in places_of(config, manifest, "CPU")]
        limits = lane_needs(config, opened.model, manifest).plan(config, opened.model)
        threads = threads_of(config, default_threads, manifest)
        runtimes = [OnnxRuntime(provider, threads) for provider in providers]
        model = LaneModel(
            opened.folder,
            manifest,
            opened.model,
            runtimes,
            at_once=limits.steps_in_flight > 1,
        )
        info = RunnerInfo(
            limits=limits,
            device=f"{describe(providers)}, {count_of(threads, 'thread')}",
            dtype=manifest.dtype,
            num_parameters=manifest.num_parameters,
            weight_bytes=manifest.weight_bytes,
            kv_cache_bytes=model.cache_bytes,
        )
        return lane_runner(model, sampling_ops(config, opened.model), config, info)
