"""Which shapes of steps are recorded as graphs."""

from __future__ import annotations

from collections.abc import Sequence

from glmserve.ops.step_shape import StepShape

MOST_MIXED_TOKENS = 512
"""A longer step computes longer than the host takes to launch it: on an H200, 512 tokens of a
ChatGLM2-6B take at least 7.5 ms, and its some three hundred launches 5.5 ms."""
_MIXED_SIZES = (16, 32, 64, 96, *range(128, MOST_MIXED_TOKENS, 64))
"""Beyond some 180 tokens a step takes longer the more it has, so padding is at most 63 tokens."""


def decode_sizes(max_sequences: int) -> list[int]:
    """Batch sizes of steps of decodes: 1, 2, 4, then multiples of 8, beyond 64 of 32.

    A step is padded to the next size. Padding costs little: decoding takes mostly the time to read
    the weights, which is the same for any number of rows.
    """
    sizes = [1, 2, 4, *range(8, 64, 8), *range(64, max_sequences, 32)]
    return [*(size for size in sizes if size < max_sequences), max_sequences]


def mixed_sizes(max_step_tokens: int) -> list[int]:
    """Numbers of tokens of steps that may hold prompts, ascending; none if a step has one token."""
    largest = min(max_step_tokens, MOST_MIXED_TOKENS)
    if largest < 2:
        return []
    return [*(size for size in _MIXED_SIZES if size < largest), largest]


def graph_shapes(max_sequences: int, max_step_tokens: int, context: int) -> list[StepShape]:
    """The shapes to record, those with most tokens first, so that the others fit in their memory.

    Args:
        context: positions of the longest sequence.
    """
    decodes = [_decodes(size, context) for size in decode_sizes(max_sequences)]
    mixed = [_mixed(size, max_sequences, context) for size in mixed_sizes(max_step_tokens)]
    return sorted((*decodes, *mixed), key=lambda shape: -shape.tokens)


def smallest_that_fits(shapes: Sequence[StepShape], tokens: int) -> StepShape | None:
    """Of shapes with ascending numbers of tokens."""
    return next((shape for shape in shapes if shape.tokens >= tokens), None)


def _decodes(size: int, context: int) -> StepShape:
    return StepShape(
        tokens=size, decodes=size, prompts=0, sequences=size, outputs=size, context=context
    )


def _mixed(size: int, max_sequences: int, context: int) -> StepShape:
    sequences = min(size, max_sequences)
    return StepShape(
        tokens=size,
        decodes=sequences,
        prompts=min(size // 2, max_sequences),
        sequences=sequences,
        outputs=sequences,
        context=context,
    )
