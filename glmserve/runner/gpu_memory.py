"""The memory that a model needs on a GPU, and options that GPUs do not support."""

from __future__ import annotations

from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import count_parameters, weight_bytes
from glmserve.runner.dtypes import dtype_name
from glmserve.runner.limits import CacheMemory, MemoryNeeds, activation_bytes, step_tokens
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


def gpu_weight_bytes(model: ModelConfig, target: TorchTarget) -> int:
    """Bytes of the weights on the GPU."""
    return weight_bytes(model, target.dtype.itemsize, target.quantization)


def gpu_memory_needs(
    config: RunnerConfig, model: ModelConfig, target: TorchTarget, block_size: int, available: int
) -> MemoryNeeds:
    """The memory that the model needs, and what remains for the KV cache.

    Args:
        available: free bytes before the weights are loaded.
    """
    max_step_tokens = step_tokens(config, model, _STEP_TOKENS)
    workspace = activation_bytes(config, model, target.dtype.itemsize, max_step_tokens)
    weights = gpu_weight_bytes(model, target)
    token_bytes = model.num_layers * target.ops.attention.token_bytes(model.head_dim)
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
