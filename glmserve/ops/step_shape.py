"""Bounds on a step, by which tensors of fixed shapes are made."""

from __future__ import annotations

from typing import NamedTuple

from glmserve.ops.batch import Batch


class StepShape(NamedTuple):
    """The most that a step may hold. What is missing is padding."""

    tokens: int
    decodes: int
    """Sequences with one new token."""
    prompts: int
    """Sequences with several new tokens."""
    sequences: int
    """Of both kinds together."""
    outputs: int
    """Output rows, see Batch."""
    context: int
    """Positions of a sequence, those of its new tokens included."""


def shape_of(batch: Batch) -> StepShape:
    """The shape of one step, without padding."""
    sequences = len(batch.context_lens)
    return StepShape(
        tokens=len(batch.input_ids),
        decodes=batch.num_decodes,
        prompts=sequences - batch.num_decodes,
        sequences=sequences,
        outputs=len(batch.output_rows),
        context=int(batch.context_lens.max()),
    )
