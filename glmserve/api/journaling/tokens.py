"""One choice's tokens: from the record as far as it reaches, and then from the engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmserve.engine import NewTokens, TokenStream
from glmserve.errors import GlmserveError
from glmserve.journal import Delta
from glmserve.request import Request, RequestStatus

if TYPE_CHECKING:
    from glmserve.api.journaling.recording import Recording


class RecordedTokens:
    """A TokenSource that writes down what is taken from it.

    Args:
        choice: its number in the answer.
        tokens: the engine's stream, which begins where the record ends.
        leader: the first request of its group, which scores the prompt.
    """

    def __init__(
        self, recording: Recording, choice: int, tokens: TokenStream, leader: Request
    ) -> None:
        self.request = tokens.request
        self._recording = recording
        self._choice = choice
        self._tokens = tokens
        self._leader = leader
        self._is_over = False

    @property
    def answer(self) -> Sequence[Request]:
        """See TokenStream."""
        return self._tokens.answer

    @answer.setter
    def answer(self, answer: Sequence[Request]) -> None:
        self._tokens.answer = answer

    async def wait_first(self) -> None:
        """See TokenStream."""
        if self._recording.tape.is_played:
            try:
                await self._tokens.wait_first()
            except GlmserveError as error:
                self._recording.note_failure(error)
                raise

    async def next_tokens(self) -> NewTokens:
        """See TokenStream."""
        delta = await self._recording.tape.next(self._choice)
        if delta is not None:
            if delta.status:
                self._note_end(delta.ended)
            return NewTokens(delta.token_ids, delta.logprobs)
        if self._is_over:
            return NewTokens([], [])
        try:
            new = await self._tokens.next_tokens()
        except GlmserveError as error:
            self._recording.note_failure(error)
            raise
        if new.token_ids:
            self._record(new)
        else:
            self._end()
        return new

    def close(self, status: RequestStatus = RequestStatus.FINISHED_ABORTED) -> None:
        """See TokenStream. A consumer that has stopped of itself has come to the end."""
        self._tokens.close(status)
        if status is RequestStatus.FINISHED_STOPPED and not self._is_over:
            recorded = self._recording.tape.drop(self._choice)
            if recorded is None:
                self._end()
            else:
                self._note_end(recorded.ended)

    def _record(self, new: NewTokens, status: int = 0, ended: float = 0.0) -> None:
        request = self.request
        self._recording.record(
            Delta(
                self._choice,
                new.token_ids,
                status,
                ended,
                request.num_cached_tokens,
                request.num_drafted_tokens,
                request.num_accepted_tokens,
                new.logprobs,
            ),
            self._leader,
        )

    def _end(self) -> None:
        now = time.time()
        self._record(NewTokens([], []), self.request.status, now)
        self._note_end(now)

    def _note_end(self, ended: float) -> None:
        self._is_over = True
        self._recording.note_end(ended)
