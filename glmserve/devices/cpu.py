"""The CPU: plain torch with packed linear weights."""

from __future__ import annotations

from pathlib import Path

import torch

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo
from glmserve.devices.host import available_memory, cpu_name, usable_cores
from glmserve.errors import DeviceError, OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.parameters import count_parameters
from glmserve.ops.cpu import CpuAttention, CpuOps
from glmserve.ops.kv_store import make_store
from glmserve.ops.reproducible import ReproducibleAttention, ReproducibleCpuOps
from glmserve.runner.dtypes import dtype_name, host_dtype
from glmserve.runner.limits import CacheMemory, format_bytes, plan_limits
from glmserve.runner.torch_runner import TorchRunner, TorchTarget, load_torch_runner

_CACHE_SHARE = 0.25
"""Of the memory left beside the weights: a CPU's memory is everybody's."""

_BLOCK_SIZE = 16
_HOST = torch.device("cpu")

_TINY_MODEL = 2**25
"""Bytes of weights below which handing work to a second thread costs more than it saves."""


class CpuDevice:
    """Always there."""

    name = "cpu"

    def probe(self) -> DeviceInfo:
        return DeviceInfo(True, f"{cpu_name()}, {usable_cores()} cores")

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> TorchRunner:
        model = read_model_config(Path(config.checkpoint), config.rope_scaling)
        dtype = host_dtype(config, model, fast_bfloat16=_computes_bfloat16())
        weight_bytes = count_parameters(model) * dtype.itemsize
        memory = available_memory()
        if weight_bytes > memory:
            raise DeviceError(
                f"not enough memory: the weights need {format_bytes(weight_bytes)} as "
                f"{dtype_name(dtype)}, {format_bytes(memory)} are available"
            )
        _refuse_unserved(config)
        block_size = config.block_size or _BLOCK_SIZE
        ops = _make_ops(config, model, dtype, block_size)
        token_bytes = model.num_layers * ops.attention.token_bytes(model.head_dim)
        cache_memory = CacheMemory(memory - weight_bytes, _CACHE_SHARE, token_bytes, block_size)
        limits = plan_limits(config, model, cache_memory)
        threads = config.threads or default_threads(usable_cores(), weight_bytes)
        torch.set_num_threads(threads)
        target = TorchTarget(
            device=_HOST,
            description=f"cpu ({cpu_name()}, {threads} thread{'s' if threads > 1 else ''})",
            dtype=dtype,
            ops=ops,
        )
        return load_torch_runner(config, model, target, limits, progress)


def default_threads(cores: int, weight_bytes: int) -> int:
    """All but one, which the server process needs; both of two; one for a tiny model."""
    if weight_bytes < _TINY_MODEL:
        return 1
    return cores if cores <= 2 else cores - 1


def _make_ops(
    config: RunnerConfig, model: ModelConfig, dtype: torch.dtype, block_size: int
) -> CpuOps:
    store = make_store(config.kv_cache_dtype, dtype)
    if config.deterministic:
        return ReproducibleCpuOps(
            ReproducibleAttention(model.num_kv_heads, _HOST, block_size, store)
        )
    return CpuOps(CpuAttention(model.num_kv_heads, dtype, _HOST, block_size, store))


def _refuse_unserved(config: RunnerConfig) -> None:
    if config.attention_backend not in ("auto", "sdpa"):
        raise OptionError(
            f"--attention-backend {config.attention_backend} cannot be used here: it needs a GPU, "
            "and this is the cpu device; its backend is sdpa"
        )


def _computes_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; without, it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
