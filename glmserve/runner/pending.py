"""Tokens that a step chose and the next one already goes on from."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from glmserve.ops.batch import Batch
from glmserve.step import PENDING, SamplingInput, ScheduledSequence


def resolve(batch: Batch, chosen: Mapping[int, int]) -> None:
    """Put the chosen tokens where the batch's input_ids are PENDING."""
    for row, request_id in batch.pending:
        batch.input_ids[row] = _usable(chosen[request_id])


def needs_chosen(sequence: ScheduledSequence) -> bool:
    """Whether choosing the sequence's next token takes knowing its pending one."""
    sampling = sequence.sampling
    return sampling is not None and bool(sampling.history) and sequence.token_ids[-1] == PENDING


def with_history(sequence: ScheduledSequence, chosen: Mapping[int, int]) -> SamplingInput:
    """How to choose the sequence's next token, its pending one added to the history.

    Args:
        chosen: what the step before chose, by request id.
    """
    sampling = sequence.sampling
    assert sampling is not None, "only sampled sequences have a history"
    if not needs_chosen(sequence):
        return sampling
    token = np.int32(_usable(chosen[sequence.request_id])).tobytes()
    return msgspec.structs.replace(sampling, history=sampling.history + token)


def _usable(token_id: int) -> int:
    """Any id in place of NOT_A_NUMBER: whatever comes out of the row is dropped."""
    return max(token_id, 0)
