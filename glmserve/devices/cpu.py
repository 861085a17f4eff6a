"""The CPU: plain torch with packed linear weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from glmserve.config import Quantization, ReportProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo
from glmserve.devices.host import available_memory, cpu_name, usable_cores
from glmserve.errors import DeviceError, OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.parameters import weight_bytes
from glmserve.ops.cpu import CpuAttention, CpuOps
from glmserve.ops.kv_store import make_store
from glmserve.ops.reproducible import ReproducibleAttention, ReproducibleCpuOps
from glmserve.runner.dtypes import dtype_name, host_dtype, quantization_on_load
from glmserve.runner.limits import CacheMemory, format_bytes, plan_limits, step_tokens
from glmserve.runner.torch_runner import TorchRunner, TorchTarget, load_torch_runner

_CACHE_SHARE = 0.25
"""Of the memory left beside the weights: a CPU's memory is everybody's."""

_BLOCK_SIZE = 16
_STEP_TOKENS = 512
"""Prompts of 2000 tokens are computed 1.1x as fast in one step, but hold up everybody's next token
four times as long."""
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
        quantization = quantization_on_load(config, model)
        _refuse_unserved(config, dtype)
        needed = _weight_bytes(model, dtype, quantization)
        memory = available_memory()
        if needed > memory:
            raise DeviceError(
                f"not enough memory: the weights need {format_bytes(needed)} as "
                f"{dtype_name(dtype)}, {format_bytes(memory)} are available"
            )
        block_size = config.block_size or _BLOCK_SIZE
        ops = _make_ops(config, model, dtype, block_size)
        token_bytes = model.num_layers * ops.attention.token_bytes(model.head_dim)
        cache_memory = CacheMemory(memory - needed, _CACHE_SHARE, token_bytes, block_size)
        limits = plan_limits(config, model, cache_memory, step_tokens(config, _STEP_TOKENS))
        threads = config.threads or default_threads(usable_cores(), needed)
        torch.set_num_threads(threads)
        target = TorchTarget(
            device=_HOST,
            description=f"cpu ({cpu_name()}, {threads} thread{'s' if threads > 1 else ''})",
            dtype=dtype,
            ops=ops,
            quantization=quantization,
        )
        return load_torch_runner(config, model, target, limits, progress)


def _weight_bytes(model: ModelConfig, dtype: torch.dtype, quantization: Quantization | None) -> int:
    """What CpuOps keeps: codes only where it multiplies with them."""
    if dtype != torch.bfloat16:
        model, quantization = replace(model, stored_bits=None), None
    return weight_bytes(model, dtype.itemsize, quantization)


def default_threads(cores: int, num_bytes: int) -> int:
    """All but one, which the server process needs; both of two; one for a tiny model."""
    if num_bytes < _TINY_MODEL:
        return 1
    return cores if cores <= 2 else cores - 1


def _make_ops(
    config: RunnerConfig, model: ModelConfig, dtype: torch.dtype, block_size: int
) -> CpuOps:
    store = make_store(config.kv_cache_dtype, dtype)
    if config.deterministic:
        return ReproducibleCpuOps(
            ReproducibleAttention(model.num_kv_heads, _HOST, block_size, store), dtype
        )
    return CpuOps(CpuAttention(model.num_kv_heads, dtype, _HOST, block_size, store), dtype)


def _refuse_unserved(config: RunnerConfig, dtype: torch.dtype) -> None:
    if config.attention_backend not in ("auto", "sdpa"):
        raise OptionError(
            f"--attention-backend {config.attention_backend} cannot be used here: it needs a GPU, "
            "and this is the cpu device; its backend is sdpa"
        )
    if config.quantization == "w8a8" and dtype != torch.bfloat16:
        raise OptionError(
            f"--quantization w8a8 rounds activations in bfloat16, and here they are "
            f"{dtype_name(dtype)}; add --dtype bfloat16, or take int8"
        )


def _computes_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; without, it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
