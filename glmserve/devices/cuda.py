"""NVIDIA GPUs through plain torch."""

from __future__ import annotations

from pathlib import Path

import torch

from glmserve.config import LoadProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo
from glmserve.errors import DeviceError
from glmserve.model_config import read_model_config
from glmserve.models.parameters import count_parameters
from glmserve.ops.attention import AttentionBackend
from glmserve.ops.base import Ops
from glmserve.runner.dtypes import dtype_name, stored_dtype
from glmserve.runner.limits import CacheMemory, format_bytes, kv_token_bytes, plan_limits
from glmserve.runner.torch_runner import TorchRunner, TorchTarget, load_torch_runner

_CACHE_SHARE = 0.8
"""Of the memory left beside the weights; activations need the rest."""


class CudaDevice:
    """The first visible GPU."""

    name = "cuda"

    def probe(self) -> DeviceInfo:
        if torch.version.cuda is None:
            return DeviceInfo(False, f"torch {torch.__version__} is built without CUDA")
        if not torch.cuda.is_available():
            return DeviceInfo(False, "torch finds no NVIDIA driver or no visible GPU")
        return DeviceInfo(True, torch.cuda.get_device_name(0))

    def create_runner(self, config: RunnerConfig, progress: LoadProgress) -> TorchRunner:
        model = read_model_config(Path(config.checkpoint), config.rope_scaling)
        dtype = stored_dtype(config, model)
        weight_bytes = count_parameters(model) * dtype.itemsize
        memory, _ = torch.cuda.mem_get_info(0)
        if weight_bytes > memory:
            raise DeviceError(
                f"not enough GPU memory: the weights need {format_bytes(weight_bytes)} as "
                f"{dtype_name(dtype)}, {format_bytes(memory)} are free"
            )
        limits = plan_limits(
            config,
            model,
            CacheMemory(memory - weight_bytes, _CACHE_SHARE, kv_token_bytes(model, dtype.itemsize)),
        )
        gpu = torch.device("cuda", 0)
        target = TorchTarget(
            device=gpu,
            description=f"cuda ({torch.cuda.get_device_name(0)})",
            dtype=dtype,
            ops=Ops(AttentionBackend(model.num_kv_heads, dtype, gpu)),
        )
        return load_torch_runner(config, model, target, limits, progress)
