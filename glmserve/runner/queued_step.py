"""The last step that was queued, and what the next one takes from it.

A step can be planned before the step before it has chosen its tokens. Then its token ids hold
placeholders, and the history of a penalty lacks the last token.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
)


class QueuedStep:
    """A step on the device. Two threads may wait for its output.

    Args:
        wait: waits for the output; called once.
        request_ids: of the step's sampled sequences, in order.
    """

    def __init__(self, wait: Callable[[], StepOutput], request_ids: Sequence[int]) -> None:
        self.rows = {request_id: row for row, request_id in enumerate(request_ids)}
        """Request id to the index of its token among the step's tokens."""
        self._wait = wait
        self._output: StepOutput | None = None
        self._lock = threading.Lock()

    def output(self) -> StepOutput:
        """Wait for the output."""
        with self._lock:
            if self._output is None:
                self._output = self._wait()
            return self._output

    def chosen(self) -> dict[int, int]:
        """Wait for the chosen tokens: request id to token id."""
        return dict(zip(self.rows, self.output().token_ids, strict=True))


class LastTokens:
    """The tokens that a runner has chosen in its last step, for one that waits for each step."""

    def __init__(self) -> None:
        self._chosen: dict[int, int] = {}
        """By request id."""

    def record(self, step: StepInput, output: StepOutput) -> None:
        """Keep the tokens of a step."""
        owners = [s.request_id for s in step.sequences for _ in s.sampling_inputs]
        self._chosen = dict(zip(owners, output.token_ids, strict=True))

    def resolve(self, step: StepInput) -> StepInput:
        """The step with chosen tokens in place of placeholders."""
        if all(s.token_ids[-1] != PLACEHOLDER_TOKEN_ID for s in step.sequences):
            return step
        return StepInput(step.step_id, [self._with_token(s) for s in step.sequences])

    def _with_token(self, sequence: ScheduledSequence) -> ScheduledSequence:
        if sequence.token_ids[-1] != PLACEHOLDER_TOKEN_ID:
            return sequence
        # Any id can replace INVALID_TOKEN_ID: the result of such a sequence is dropped.
        token = max(self._chosen[sequence.request_id], 0)
        sampling = sequence.sampling and with_history(sequence, self._chosen)
        return msgspec.structs.replace(sequence, token_ids=[token], sampling=sampling)


def needs_chosen(sequence: ScheduledSequence) -> bool:
    """Whether the host needs the token behind a placeholder: the sequence's penalties count it."""
    sampling = sequence.sampling
    return (
        sampling is not None
        and bool(sampling.history)
        and sequence.token_ids[-1] == PLACEHOLDER_TOKEN_ID
    )


def with_history(sequence: ScheduledSequence, chosen: Mapping[int, int]) -> SamplingInput:
    """The sequence's SamplingInput, with the token behind its placeholder added to the history.

    Args:
        sequence: sampled.
        chosen: tokens of the step before, by request id; needed where `needs_chosen`.
    """
    sampling = sequence.sampling
    assert sampling is not None, "only sampled sequences have a history"
    if not needs_chosen(sequence):
        return sampling
    # Any id can replace INVALID_TOKEN_ID: the result of such a sequence is dropped.
    token = np.int32(max(chosen[sequence.request_id], 0)).tobytes()
    return msgspec.structs.replace(sampling, history=sampling.history + token)
