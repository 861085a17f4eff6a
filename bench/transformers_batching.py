"""How fast transformers' continuous batching generates, with each attention that it can have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from transformers import GenerationConfig, GlmForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig

import flash_attention
import transformers_flash

ATTENTIONS = {"flash": transformers_flash.NAME, "sdpa": "sdpa"}
"""Of continuous batching, by a short name: torch's flash attention, and its
scaled_dot_product_attention with a mask of the whole batch."""
_CACHE_SHARE = 0.5
"""Of the memory that is free when continuous batching starts."""


def batched_rate(
    model: GlmForCausalLM, prompts: list[list[int]], output_tokens: int, attention: str
) -> float:
    """Output tokens per second of transformers' continuous batching, all prompts at once.

    A short run before it sets up what it keeps: cache, graphs.

    Args:
        attention: one of ATTENTIONS.

    Raises:
        RuntimeError: it failed, or a request ended early.
    """
    batching = ContinuousBatchingConfig(max_memory_percent=_CACHE_SHARE, allow_block_sharing=False)
    with attending(model, attention), ExitStack() as stack:
        if attention == "flash" and _reads_in_place(model):
            batching.page_size = _page_size(max(map(len, prompts)) + output_tokens)
            stack.enter_context(transformers_flash.reading_in_place())
        batched(model, [[t ^ 1 for t in prompt] for prompt in prompts], output_tokens, batching)
        start = time.perf_counter()
        batched(model, prompts, output_tokens, batching)
        return len(prompts) * output_tokens / (time.perf_counter() - start)


def _reads_in_place(model: GlmForCausalLM) -> bool:
    """Whether steps of decodes read K and V where they are; if not it prints why."""
    if reason := flash_attention.wrong_rows(model.dtype, model.device):
        print(f"flash attention does not read the cache in place: {reason}")
    return reason is None


def _page_size(tokens: int) -> int:
    """Of pages of which one holds so many tokens."""
    return -(-tokens // 16) * 16


def missing_attention(model: GlmForCausalLM, attention: str) -> str | None:
    """Why this model cannot batch with one of ATTENTIONS; None if it can."""
    if attention == "flash":
        return flash_attention.missing(model.dtype, model.device)
    return None


@contextmanager
def attending(model: GlmForCausalLM, attention: str) -> Iterator[None]:
    """Continuous batching has this attention, and what it keeps is gone in the end."""
    before = model.config._attn_implementation
    model.config._attn_implementation = ATTENTIONS[attention]
    try:
        yield
    finally:
        model.destroy_cached_continuous_batching_manager()
        model.config._attn_implementation = before


def batched(
    model: GlmForCausalLM,
    prompts: list[list[int]],
    output_tokens: int,
    batching: ContinuousBatchingConfig,
) -> list[list[int]]:
    """The greedy answers of continuous batching, with the model's attention.

    Raises:
        RuntimeError: it failed, or a request ended early.
    """
    batching.auto_switch_to_flash = False  # to another one than this, where one is installed
    outputs = model.generate_batch(
        prompts,
        generation_config=GenerationConfig(
            max_new_tokens=output_tokens, eos_token_id=-1, pad_token_id=0, do_sample=False
        ),
        continuous_batching_config=batching,
        persistent_manager=True,
    )
    answers = [output.generated_tokens for output in outputs.values()]
    lengths = [len(answer) for answer in answers]
    if lengths != [output_tokens] * len(prompts):
        errors = [output.error for output in outputs.values() if output.error]
        raise RuntimeError(errors[0] if errors else f"answers of {set(lengths)} tokens")
    return answers
