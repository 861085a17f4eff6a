"""GPUs under torch.cuda, which is also torch's name for AMD's: one device class for each maker."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo
from glmserve.errors import DeviceError
from glmserve.model_config import read_model_config
from glmserve.models.parameters import weight_bytes
from glmserve.ops.gpu_ops import Gpu, make_ops
from glmserve.runner.accelerator import CudaAccelerator
from glmserve.runner.dtypes import dtype_name, quantization_on_load, stored_dtype
from glmserve.runner.limits import format_bytes
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

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> GpuRunner:
        major, minor = torch.cuda.get_device_capability(0)
        gpu = _gpu(f"sm_{major}{minor}", (major, minor))
        return _create_runner(self.name, config, progress, gpu)


class RocmDevice:
    """The first visible AMD GPU."""

    name = "rocm"

    def probe(self) -> DeviceInfo:
        if torch.version.hip is None:
            return DeviceInfo(False, f"torch {torch.__version__} is built without ROCm")
        if not torch.cuda.is_available():
            return DeviceInfo(False, "torch finds no AMD driver or no visible GPU")
        return _probe_triton()

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> GpuRunner:
        chip = torch.cuda.get_device_properties(0).gcnArchName.split(":")[0]
        return _create_runner(self.name, config, progress, _gpu(chip, None))


def _probe_triton() -> DeviceInfo:
    if find_spec("triton") is None:
        return DeviceInfo(False, "the triton package is missing; pip install 'glmserve[cuda]'")
    return DeviceInfo(True, torch.cuda.get_device_name(0))


def _gpu(chip: str, capability: tuple[int, int] | None) -> Gpu:
    properties = torch.cuda.get_device_properties(0)
    return Gpu(torch.device("cuda", 0), chip, capability, properties.multi_processor_count)


def _create_runner(
    name: str, config: RunnerConfig, progress: ReportProgress, gpu: Gpu
) -> GpuRunner:
    # Not before it is needed: this imports triton, which only machines with a GPU must have.
    from glmserve.runner.gpu_loading import load_gpu_runner

    model = read_model_config(
        Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
    )
    dtype = stored_dtype(config, model)
    quantization = quantization_on_load(config, model)
    block_size = config.block_size or _BLOCK_SIZE
    target = TorchTarget(
        device=gpu.device,
        description=f"{name} ({torch.cuda.get_device_name(0)})",
        dtype=dtype,
        ops=make_ops(config, model, dtype, block_size, gpu),
        quantization=quantization,
    )
    accelerator = CudaAccelerator(gpu.device)
    needed = weight_bytes(model, dtype.itemsize, quantization)
    free = accelerator.free_memory()
    if needed > free:
        raise DeviceError(
            f"not enough GPU memory: the weights need {format_bytes(needed)} as "
            f"{dtype_name(dtype)}, {format_bytes(free)} are free"
        )
    try:
        return load_gpu_runner(config, model, target, accelerator, gpu.chip, block_size, progress)
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            "not enough GPU memory for the activations of a step beside weights and KV cache; "
            f"lower --kv-cache-memory or --max-step-tokens ({error})"
        ) from None
