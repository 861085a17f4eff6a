"""GPUs under torch.cuda, which stands for AMD's GPUs as well: one device class per vendor.

A rank of a group has the GPU of its number among the ranks of its machine. NCCL (RCCL on AMD's)
adds up over ranks, and carries hidden states from stage to stage.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo, place_of
from glmserve.errors import DeviceError, OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.model_config.sharding import local_config
from glmserve.models.parameters import count_parameters
from glmserve.models.parts import part_of
from glmserve.ops.collectives import Collectives
from glmserve.ops.gpu.select_ops import Gpu, make_ops
from glmserve.ops.torch_collectives import join_by
from glmserve.ops.uploads import make_uploads
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

_LARGE_MEMORY = 32 * 2**30
"""Bytes. From there on the logits of a large batch do not matter."""
_LARGE_BATCH_SIZE = 256
"""The weights are read once for all of them. On an H200 a step of a ChatGLM2-6B then takes at least
1.75 times as long as one for 64, for four times as many tokens (bench/step_floor.py)."""
_BLOCK_SIZE = 64
"""One block and head of a 16-bit cache is then 16 KiB in one piece: a tile of the kernels."""


class _Gpu:
    """The common part of the device classes: the first visible GPUs of a vendor."""

    name: str
    vendor: str
    platform: str
    serves_adapters = True

    def probe(self) -> DeviceInfo:
        if not self._is_built():
            return DeviceInfo(False, f"torch {torch.__version__} is built without {self.platform}")
        if not torch.cuda.is_available():
            return DeviceInfo(False, f"torch finds no {self.vendor} driver or no visible GPU")
        if find_spec("triton") is None:
            return DeviceInfo(False, "the triton package is missing; pip install 'glmserve[cuda]'")
        return DeviceInfo(True, torch.cuda.get_device_name(0))

    def places(self) -> int:
        """See ParallelDevice."""
        return torch.cuda.device_count()

    def join(self, config: RunnerConfig) -> Collectives:
        """See ParallelDevice."""
        return join_by("nccl", config.group, _device(config))

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        refuse_drafts(config)
        _refuse_missing(config)
        config = _with_batch_size(config)
        target = self._target(config, model)
        accelerator = CudaAccelerator(target.device)
        free, total = accelerator.free_memory(), accelerator.total_memory()
        refuse_unfree_budget(config, free, total)
        available = min(free, gpu_memory_budget(config, total))
        own = local_config(model, target.part)
        needs = gpu_memory_needs(config, own, target, _block_size(config), available)
        return replace(needs, num_parameters=count_parameters(model), batch_size=config.batch_size)

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> GpuRunner[Any, Any]:
        # Imported here because it imports triton, which only machines with a GPU need.
        from glmserve.runner.gpu_loading import load_gpu_runner

        model = read_model_config(
            Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
        )
        _refuse_missing(config)
        config = _with_batch_size(config)
        torch.cuda.set_device(_device(config))
        self.memory_needs(config, model).plan(config, model)  # raises early if it does not fit
        target, gpu = self._target(config, model), self._gpu(config)
        target = replace(target, collectives=self.join(config))
        accelerator = CudaAccelerator(gpu.device)
        block_size = _block_size(config)
        try:
            return load_gpu_runner(
                config, model, target, accelerator, gpu.chip, block_size, progress
            )
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                "not enough GPU memory for the activations of a step beside weights and KV cache; "
                f"lower --kv-cache-memory or --max-step-tokens ({error})"
            ) from None

    def _is_built(self) -> bool:
        """Whether torch supports the platform."""
        raise NotImplementedError

    def _chip(self, device: torch.device) -> tuple[str, tuple[int, int] | None]:
        """Name of the chip and NVIDIA's compute capability, see Gpu."""
        raise NotImplementedError

    def _gpu(self, config: RunnerConfig) -> Gpu:
        device = _device(config)
        chip, capability = self._chip(device)
        multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
        return Gpu(make_uploads(device), chip, capability, multiprocessors)

    def _target(self, config: RunnerConfig, model: ModelConfig) -> TorchTarget:
        """How a model is computed on this GPU.

        Raises:
            OptionError: an option is not supported on this GPU.
        """
        gpu, dtype = self._gpu(config), stored_dtype(config, model)
        quantization = quantization_on_load(config, model)
        part = part_of(config, model, dtype.itemsize, quantization)
        own = local_config(model, part)
        return TorchTarget(
            device=gpu.device,
            description=f"{self.name} ({torch.cuda.get_device_name(gpu.device)})",
            dtype=dtype,
            ops=make_ops(config, own, dtype, _block_size(config), gpu),
            quantization=quantization,
            part=part,
        )


class CudaDevice(_Gpu):
    """The first visible NVIDIA GPU."""

    name = "cuda"
    vendor = "NVIDIA"
    platform = "CUDA"

    def _is_built(self) -> bool:
        return torch.version.cuda is not None

    def _chip(self, device: torch.device) -> tuple[str, tuple[int, int] | None]:
        major, minor = torch.cuda.get_device_capability(device)
        return f"sm_{major}{minor}", (major, minor)


class RocmDevice(_Gpu):
    """The first visible AMD GPU."""

    name = "rocm"
    vendor = "AMD"
    platform = "ROCm"

    def _is_built(self) -> bool:
        return torch.version.hip is not None

    def _chip(self, device: torch.device) -> tuple[str, tuple[int, int] | None]:
        return torch.cuda.get_device_properties(device).gcnArchName.split(":")[0], None


def _device(config: RunnerConfig) -> torch.device:
    return torch.device("cuda", 0 if config.group is None else config.group.local.rank)


def _refuse_missing(config: RunnerConfig) -> None:
    """Check that each rank has a GPU.

    Raises:
        OptionError: there are fewer.
    """
    count, wanted = torch.cuda.device_count(), place_of(config).size
    if wanted > count:
        here = f", {wanted} of them here" if wanted < config.num_ranks else ""
        raise OptionError(
            f"--tensor-parallel-size {config.tensor_parallel_size} and --pipeline-parallel-size "
            f"{config.pipeline_parallel_size}: each of {config.num_ranks} ranks needs a GPU{here}, "
            f"and {count} {'is' if count == 1 else 'are'} visible"
        )


def _with_batch_size(config: RunnerConfig) -> RunnerConfig:
    """The config with the batch size that it asks for, or that suits the GPU."""
    memory = torch.cuda.get_device_properties(_device(config)).total_memory
    if config.max_batch_size or memory < _LARGE_MEMORY:
        return config
    limit = config.max_step_tokens or _LARGE_BATCH_SIZE
    return msgspec.structs.replace(config, max_batch_size=min(_LARGE_BATCH_SIZE, limit))


def _block_size(config: RunnerConfig) -> int:
    return config.block_size or _BLOCK_SIZE
