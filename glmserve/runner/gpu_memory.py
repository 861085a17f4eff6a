"""What a model takes of a GPU's memory, and what GPUs cannot have."""

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
"""Of what is left beside weights and activations; allocators lose some to fragments."""


def refuse_drafts(config: RunnerConfig) -> None:
    """Raises OptionError: drafts are asked for."""
    if config.drafts:
        raise OptionError(
            "--speculative-tokens works on a CPU only so far: a GPU's steps are planned before the "
            "tokens are known that a guess would follow"
        )


def gpu_weight_bytes(model: ModelConfig, target: TorchTarget) -> int:
    """Bytes of the weights as the GPU keeps them."""
    return weight_bytes(model, target.dtype.itemsize, target.quantization)


def gpu_memory_needs(
    config: RunnerConfig, model: ModelConfig, target: TorchTarget, block_size: int, available: int
) -> MemoryNeeds:
    """What the KV cache gets beside weights and activations.

    Args:
        available: bytes that are free before the weights are loaded.
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
