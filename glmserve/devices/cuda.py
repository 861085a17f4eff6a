"""GPUs under torch.cuda, which stands for AMD's GPUs as well: one device class per vendor."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo
from glmserve.errors import DeviceError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.ops.gpu.select_ops import Gpu, make_ops
from glmserve.runner.accelerator import CudaAccelerator
from glmserve.runner.dtypes import quantization_on_load, stored_dtype
from glmserve.runner.gpu_memory import (
    gpu_memory_budget,
    gpu_memory_needs,
    refuse_drafts,
    refuse_unfree_budget,
)
from glmserve.runner.limits import MemoryNeeds
from glmserve.runner.torch_runner import TorchTarget

if TYPE_CHECKING:
    from glmserve.runner.gpu_runner import GpuRunner

_BLOCK_SIZE = 64
"""One block and head of a 16-bit cache is then 16 KiB in one piece: a tile of the kernels."""


class CudaDevice:
    """The first visible NVIDIA GPU."""

    name = "cuda"

    def probe(self) -> DeviceInfo:
        if torch.version.cuda is None:
            return DeviceInfo(False, f"torch {torch.__version__} is built without CUDA")
        if not torch.cuda.is_available():
            return DeviceInfo(False, "torch finds no NVIDIA driver or no visible GPU")
        return _probe_triton()

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        return _memory_needs(config, model, self._gpu())

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> GpuRunner[Any, Any]:
        return _create_runner(self.name, config, progress, self._gpu())

    def _gpu(self) -> Gpu:
        major, minor = torch.cuda.get_device_capability(0)
        return _gpu(f"sm_{major}{minor}", (major, minor))


class RocmDevice:
    """The first visible AMD GPU."""

    name = "rocm"

    def probe(self) -> DeviceInfo:
        if torch.version.hip is None:
            return DeviceInfo(False, f"torch {torch.__version__} is built without ROCm")
        if not torch.cuda.is_available():
            return DeviceInfo(False, "torch finds no AMD driver or no visible GPU")
        return _probe_triton()

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        return _memory_needs(config, model, self._gpu())

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> GpuRunner[Any, Any]:
        return _create_runner(self.name, config, progress, self._gpu())

    def _gpu(self) -> Gpu:
        chip = torch.cuda.get_device_properties(0).gcnArchName.split(":")[0]
        return _gpu(chip, None)


def _probe_triton() -> DeviceInfo:
    if find_spec("triton") is None:
        return DeviceInfo(False, "the triton package is missing; pip install 'glmserve[cuda]'")
    return DeviceInfo(True, torch.cuda.get_device_name(0))


def _gpu(chip: str, capability: tuple[int, int] | None) -> Gpu:
    properties = torch.cuda.get_device_properties(0)
    return Gpu(torch.device("cuda", 0), chip, capability, properties.multi_processor_count)


def _target(config: RunnerConfig, model: ModelConfig, gpu: Gpu, description: str) -> TorchTarget:
    """How a model is computed on this GPU.

    Raises:
        OptionError: an option is not supported on this GPU.
    """
    dtype = stored_dtype(config, model)
    return TorchTarget(
        device=gpu.device,
        description=description,
        dtype=dtype,
        ops=make_ops(config, model, dtype, _block_size(config), gpu),
        quantization=quantization_on_load(config, model),
    )


def _block_size(config: RunnerConfig) -> int:
    return config.block_size or _BLOCK_SIZE


def _memory_needs(config: RunnerConfig, model: ModelConfig, gpu: Gpu) -> MemoryNeeds:
    refuse_drafts(config)
    target = _target(config, model, gpu, "")
    accelerator = CudaAccelerator(target.device)
    free, total = accelerator.free_memory(), accelerator.total_memory()
    refuse_unfree_budget(config, free, total)
    available = min(free, gpu_memory_budget(config, total))
    return gpu_memory_needs(config, model, target, _block_size(config), available)


def _create_runner(
    name: str, config: RunnerConfig, progress: ReportProgress, gpu: Gpu
) -> GpuRunner[Any, Any]:
    # Imported here because it imports triton, which only machines with a GPU need.
    from glmserve.runner.gpu_loading import load_gpu_runner

    model = read_model_config(
        Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
    )
    _memory_needs(config, model, gpu).plan(
        config, model
    )  # raises before loading if it does not fit
    target = _target(config, model, gpu, f"{name} ({torch.cuda.get_device_name(0)})")
    accelerator = CudaAccelerator(gpu.device)
    block_size = _block_size(config)
    try:
        return load_gpu_runner(config, model, target, accelerator, gpu.chip, block_size, progress)
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            "not enough GPU memory for the activations of a step beside weights and KV cache; "
            f"lower --kv-cache-memory or --max-step-tokens ({error})"
        ) from None
