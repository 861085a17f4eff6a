"""The size of the KV cache, and the RunnerLimits that follow from it. Arithmetic only, no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from glmserve.config import RunnerConfig
from glmserve.contract.step import RunnerLimits
from glmserve.errors import DeviceError, OptionError
from glmserve.model_config import ModelConfig

_SHARE_FOR_ONE_REQUEST = 0.8
"""Part of the available memory that the cache may take so that one full-length request fits."""
_LOGIT_COPIES = 4
"""Tensors of the size of the logits that exist at the same time."""


@dataclass(frozen=True)
class MemoryNeeds:
    """The memory that a model needs on a device, computed from config.json before loading.

    Sizes are in bytes.
    """

    dtype: str
    """Name of the activations' dtype."""
    num_parameters: int
    weights: int
    workspace: int
    """Memory of the largest step, of graphs and of all adapters, beside weights and KV cache."""
    available: int
    """Free memory of the device, before loading."""
    cache: CacheMemory
    """The part for the KV cache."""
    max_step_tokens: int
    batch_size: int | None = field(default=None, kw_only=True)
    """Sequences in one step, if the device has chosen; None: as the config says."""

    def plan(self, config: RunnerConfig, model: ModelConfig) -> RunnerLimits:
        """Size the KV cache: see `plan_limits`.

        Raises:
            DeviceError: not even the weights fit, or no useful KV cache beside them.
            OptionError: an option cannot be honoured.
        """
        if self.weights > self.available:
            raise DeviceError(
                f"not enough memory: the weights need {format_bytes(self.weights)} as "
                f"{self.dtype}, {format_bytes(max(0, self.available))} are available; "
                "--quantization makes them smaller, and `glmserve doctor` says by how much"
            )
        if self.batch_size is not None:
            config = msgspec.structs.replace(config, max_batch_size=self.batch_size)
        return plan_limits(config, model, self.cache, self.max_step_tokens)


@dataclass(frozen=True)
class CacheMemory:
    """Memory for the KV cache, if no option sets its size."""

    available: int
    """Bytes left beside the weights."""
    share: float
    """Part of `available` that the cache takes."""
    token_bytes: int
    """Bytes of one token's K and V in all layers."""
    block_size: int
    """Token slots per block."""


def step_tokens(config: RunnerConfig, model: ModelConfig, default: int) -> int:
    """New tokens in one step: --max-step-tokens, else the device's `default`.

    The default is raised so that every running request can get its next token, beside the longest
    prompt if the model cannot compute prompts in chunks.
    """
    if config.max_step_tokens is not None:
        return config.max_step_tokens
    if model.prompt_marks is not None:
        longest = config.max_model_len or model.max_context
        default = max(default, longest + config.batch_size)
    return max(default, config.batch_size)


def step_bytes(
    config: RunnerConfig, model: ModelConfig, itemsize: int, max_step_tokens: int
) -> int:
    """Bytes of the largest step's own tensors.

    These are the largest activations of a layer, and the logits of all sequences in float32 with
    copies for log-probabilities.

    Args:
        itemsize: bytes of an activation.
    """
    logits = _LOGIT_COPIES * config.batch_size * model.vocab_size * 4
    return layer_bytes(model, itemsize, max_step_tokens) + logits


def layer_bytes(model: ModelConfig, itemsize: int, tokens: int) -> int:
    """Bytes of the most activations that exist at the same time.

    Args:
        itemsize: bytes of an activation.
        tokens: of the step.
    """
    heads = (2 * model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    widest = 4 * model.hidden_size + max(heads, 3 * model.ffn_size)
    return tokens * widest * itemsize


def plan_limits(
    config: RunnerConfig, model: ModelConfig, memory: CacheMemory, max_step_tokens: int
) -> RunnerLimits:
    """Size the KV cache by the options, else by the memory of the device.

    --max-model-len is honoured or refused. The context length of the model is reduced to what fits:
    the cache, and one step if prompts are not computed in chunks.

    Raises:
        OptionError: an option cannot be honoured.
        DeviceError: not enough memory.
    """
    wanted = config.max_model_len
    if wanted is not None and wanted > model.max_context:
        raise OptionError(
            f"--max-model-len {wanted} is more than the {model.max_context} tokens that this "
            f"model's config.json allows"
        )
    context = wanted or model.max_context
    whole_prompts = model.prompt_marks is not None
    if whole_prompts and context > max_step_tokens:
        if wanted is not None:
            raise OptionError(
                f"--max-step-tokens {max_step_tokens} is too little for --max-model-len {wanted}: "
                "this model reads a prompt in both directions, so it is computed in one step"
            )
        context = max_step_tokens
    num_blocks = _num_blocks(config, context, memory)
    capacity = num_blocks * memory.block_size
    if capacity < context and wanted is not None:
        raise _too_small(config, wanted, capacity, memory)
    if num_blocks < 1:
        raise _too_small(config, 1, capacity, memory)
    if capacity * memory.token_bytes > memory.available:
        raise DeviceError(
            f"not enough memory: a KV cache of {capacity} tokens needs "
            f"{format_bytes(capacity * memory.token_bytes)}, "
            f"{format_bytes(max(0, memory.available))} are left beside the weights; lower "
            "--kv-cache-tokens or --kv-cache-memory"
        )
    return RunnerLimits(
        num_blocks=num_blocks,
        block_size=memory.block_size,
        max_sequences=config.batch_size,
        max_step_tokens=max_step_tokens,
        max_context=min(context, capacity),
        chunked_prefill=not whole_prompts,
        prefix_cache=not whole_prompts,
        prompt_marks=model.prompt_marks,
    )


def agreed(limits: RunnerLimits, smallest: Callable[[int], int]) -> RunnerLimits:
    """The limits of a whole group: the KV cache is as large as the smallest rank's.

    Args:
        smallest: see Collectives.
    """
    num_blocks = smallest(limits.num_blocks)
    capacity = num_blocks * limits.block_size
    return msgspec.structs.replace(
        limits, num_blocks=num_blocks, max_context=min(limits.max_context, capacity)
    )


def _num_blocks(config: RunnerConfig, context: int, memory: CacheMemory) -> int:
    """Number of blocks; may be too few for `context`, or 0."""
    block_bytes = memory.token_bytes * memory.block_size
    if config.kv_cache_tokens is not None:
        return _blocks(config.kv_cache_tokens, memory.block_size)
    if config.kv_cache_memory is not None:
        return config.kv_cache_memory // block_bytes
    one_request = _blocks(context, memory.block_size)
    affordable = int(max(0, memory.available) * memory.share) // block_bytes
    stretched = int(max(0, memory.available) * _SHARE_FOR_ONE_REQUEST) // block_bytes
    if affordable < one_request:
        return min(one_request, max(stretched, affordable))
    return min(affordable, one_request * config.batch_size)


def _blocks(tokens: int, block_size: int) -> int:
    """Number of blocks that hold `tokens`."""
    return -(-tokens // block_size)


def _too_small(
    config: RunnerConfig, context: int, capacity: int, memory: CacheMemory
) -> OptionError | DeviceError:
    """The error that names the option to change."""
    needed = _blocks(context, memory.block_size) * memory.block_size * memory.token_bytes
    need = f"one request of {context} tokens needs {format_bytes(needed)} of KV cache"
    if config.kv_cache_tokens is not None:
        return OptionError(f"--kv-cache-tokens {config.kv_cache_tokens} is too little: {need}")
    if config.kv_cache_memory is not None:
        return OptionError(
            f"--kv-cache-memory {format_bytes(config.kv_cache_memory)} is too little: {need}"
        )
    return DeviceError(
        f"not enough memory: {need}, {format_bytes(max(0, memory.available))} are left beside the "
        f"weights, which allows {capacity} tokens; "
        + ("lower --max-model-len" if capacity else "use a smaller model or another --dtype")
    )


def format_bytes(count: int) -> str:
    """Human-readable: "512 B", "3.4 GiB"."""
    if count < 1024:
        return f"{count} B"
    if count < 2**20:
        return f"{count / 2**10:.1f} KiB"
    if count < 2**30:
        return f"{count / 2**20:.1f} MiB"
    return f"{count / 2**30:.1f} GiB"
