"""Tokens that a step chose and the next one already goes on from."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from glmserve.contract.step import PLACEHOLDER_TOKEN_ID, SamplingInput, ScheduledSequence


def needs_chosen(sequence: ScheduledSequence) -> bool:
    """Whether choosing the sequence's next token takes knowing its pending one."""
    sampling = sequence.sampling
    return (
        sampling is not None
        and bool(sampling.history)
        and sequence.token_ids[-1] == PLACEHOLDER_TOKEN_ID
    )


def with_history(sequence: ScheduledSequence, chosen: Mapping[int, int]) -> SamplingInput:
    """How to choose the sequence's next token, its pending one added to the history.

    Args:
        chosen: what the step before chose, by request id.
    """
    sampling = sequence.sampling
    assert sampling is not None, "only sampled sequences have a history"
    if not needs_chosen(sequence):
        return sampling
    # In place of INVALID_TOKEN_ID any id will do: whatever comes out of the row is dropped.
    token = np.int32(max(chosen[sequence.request_id], 0)).tobytes()
    return msgspec.structs.replace(sampling, history=sampling.history + token)
