"""The tokens of one request as its consumer sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from glmserve.contract.step import Logprobs
from glmserve.errors import GlmserveError
from glmserve.request import Request, RequestStatus

_MOST_AT_ONCE = 256
"""Tokens that a consumer is given."""


class NewTokens(NamedTuple):
    """Tokens of one or more steps."""

    token_ids: list[int]
    logprobs: list[Logprobs]
    """One per token if the request wants them, else empty."""


class TokenStream:
    """Filled by the engine once per step, drained by one consumer.

    A consumer that is slower than the model finds several tokens at once; nobody waits for it.
    """

    def __init__(
        self,
        request: Request,
        on_close: Callable[[Request, RequestStatus], None],
        arrival: float,
    ) -> None:
        self.request = request
        self.answer: Sequence[Request] = (request,)
        """All requests whose tokens make one answer, this one included."""
        self.arrival = arrival
        """Clock reading when the request was submitted, seconds."""
        self.last_token: float | None = None
        """Clock reading when the newest token was delivered."""
        self._on_close = on_close
        self._tokens: list[int] = []
        self._logprobs: list[Logprobs] = []
        self._waiter: asyncio.Future[None] | None = None
        self._error: GlmserveError | None = None

    @property
    def has_begun(self) -> bool:
        """Whether any request of the answer has ever been given blocks."""
        return any(request.status.has_begun for request in self.answer)

    async def wait_first(self) -> None:
        """Wait until there is something to tell: a token, or the end.

        Raises:
            GlmserveError: the request failed before its first token.
        """
        while not self._tokens and not self.request.status.is_finished:
            await self._wait()
        if self._error is not None and not self._tokens:
            raise self._error

    async def next_tokens(self) -> NewTokens:
        """What has arrived, at least one token; none once the request is over.

        After a long pause it takes several calls: text and log-probabilities of thousands of tokens
        at a time would hold up everybody else.

        Raises:
            GlmserveError: the request failed.
        """
        while not self._tokens:
            if self._error is not None:
                raise self._error
            if self.request.status.is_finished:
                return NewTokens([], [])
            await self._wait()
        new = NewTokens(self._tokens[:_MOST_AT_ONCE], self._logprobs[:_MOST_AT_ONCE])
        self._tokens = self._tokens[_MOST_AT_ONCE:]
        self._logprobs = self._logprobs[_MOST_AT_ONCE:]
        return new

    def close(self, status: RequestStatus = RequestStatus.FINISHED_ABORTED) -> None:
        """End the request if it is not over yet, freeing its blocks now."""
        self._on_close(self.request, status)

    def push(self, token_id: int, logprobs: Logprobs | None, now: float) -> None:
        """Engine only: add a token."""
        self.last_token = now
        self._tokens.append(token_id)
        if logprobs is not None:
            self._logprobs.append(logprobs)
        self._wake()

    def end(self) -> None:
        """Engine only: the request is over without a further token."""
        self._wake()

    def fail(self, error: GlmserveError) -> None:
        """Engine only: make the consumer see an error after the tokens it has."""
        self._error = error
        self._wake()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
