"""The memory that a model needs on a GPU, and options that GPUs do not support."""

from __future__ import annotations

from glmserve.config import RunnerConfig
from glmserve.errors import DeviceError, OptionError
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import count_parameters, weight_bytes
from glmserve.runner.adapters import room_bytes
from glmserve.runner.dtypes import dtype_name
from glmserve.runner.graph_memory import GraphSpecs
from glmserve.runner.graph_shapes import graph_shapes
from glmserve.runner.limits import (
    CacheMemory,
    MemoryNeeds,
    activation_bytes,
    format_bytes,
    layer_bytes,
    step_tokens,
)
from glmserve.runner.static_steps import StaticAttention, static_adapters
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
    workspace = activation_bytes(config, model, itemsize, max_step_tokens)
    weights = gpu_weight_bytes(model, target)
    token_bytes = model.num_layers * target.ops.attention.token_bytes(model.head_dim)
    workspace += room_bytes(config, model, itemsize, token_bytes)
    workspace += _graph_bytes(config, model, target, max_step_tokens)
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


def _graph_bytes(
    config: RunnerConfig, model: ModelConfig, target: TorchTarget, max_step_tokens: int
) -> int:
    """Bytes that graphs take: the tensors they share, and the activations of the largest one.

    Their logits are counted among those of a step, see `step_bytes`.
    """
    attention = target.ops.attention
    if config.pipeline_parallel_size > 1 or not isinstance(attention, StaticAttention):
        return 0
    context = config.max_model_len or model.max_context
    shapes = graph_shapes(config.max_batch_size, max_step_tokens, context)
    planner = static_adapters(target.ops) if config.max_adapters else None
    shared = GraphSpecs(attention, planner, config.max_adapters).num_bytes(shapes)
    products = max(shape.outputs for shape in shapes) * model.vocab_size
    itemsize = target.dtype.itemsize
    return shared + layer_bytes(model, itemsize, shapes[0].tokens) + products * itemsize
