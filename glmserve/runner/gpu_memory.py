"""The memory that a model needs on a GPU, and options that GPUs do not support."""

from __future__ import annotations

from glmserve.config import RunnerConfig
from glmserve.errors import DeviceError, OptionError
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import count_parameters, weight_bytes
from glmserve.runner.adapters import room_bytes
from glmserve.runner.dtypes import dtype_name
from glmserve.runner.gpu_step_memory import step_memory
from glmserve.runner.limits import (
    CacheMemory,
    MemoryNeeds,
    format_bytes,
    step_tokens,
)
from glmserve.runner.torch_runner import TorchTarget

_STEP_TOKENS = 2048
_CACHE_SHARE = 0.97
"""Part of the memory beside weights and activations; the rest is for fragmentation of the
allocator."""


def refuse_drafts(config: RunnerConfig) -> None:
    """Refuse speculative decoding.

    Raises:
        OptionError: --speculative-tokens is given.
    """
    if config.drafts:
        raise OptionError(
            "--speculative-tokens works on a CPU only so far: a GPU's steps are planned before the "
            "tokens are known that a guess would follow"
        )


def gpu_memory_budget(config: RunnerConfig, total: int) -> int:
    """Bytes that weights, activations and KV cache may take together of a GPU with `total` bytes.

    This is what --gpu-memory-utilization means in vLLM, where the option comes from.
    """
    return int(total * (config.gpu_memory_utilization or 1))


def refuse_unfree_budget(config: RunnerConfig, free: int, total: int) -> None:
    """Check --gpu-memory-utilization before the weights are loaded.

    Raises:
        DeviceError: that share of the `total` bytes is not free.
    """
    budget = gpu_memory_budget(config, total)
    if config.gpu_memory_utilization is not None and budget > free:
        raise DeviceError(
            f"--gpu-memory-utilization {config.gpu_memory_utilization:g} asks for "
            f"{format_bytes(budget)}, {format_bytes(free)} of {format_bytes(total)} are free; "
            "lower it, or stop what else uses this GPU"
        )


def gpu_weight_bytes(model: ModelConfig, target: TorchTarget) -> int:
    """Bytes of the weights on the GPU."""
    return weight_bytes(model, target.dtype.itemsize, target.quantization)


def gpu_memory_needs(
    config: RunnerConfig, model: ModelConfig, target: TorchTarget, block_size: int, available: int
) -> MemoryNeeds:
    """The memory that the model needs, and what remains for the KV cache.

    Args:
        available: bytes that may be taken, counted before the weights are loaded.
    """
    max_step_tokens = step_tokens(config, model, _STEP_TOKENS)
    itemsize = target.dtype.itemsize
    workspace = step_memory(config, model, target, max_step_tokens).total
    weights = gpu_weight_bytes(model, target)
    token_bytes = model.num_layers * target.ops.attention.token_bytes(model.head_dim)
    workspace += room_bytes(config, model, itemsize, token_bytes)
    left = available - weights - workspace
    return MemoryNeeds(
        dtype=dtype_name(target.dtype),
        num_parameters=count_parameters(model),
        weights=weights,
        workspace=workspace,
        available=available,
        cache=CacheMemory(left, _CACHE_SHARE, token_bytes, block_size),
        max_step_tokens=max_step_tokens,
    )
