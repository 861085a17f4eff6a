"""The stream of one request's tokens from the engine to its consumer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from glmserve.contract.step import Logprobs
from glmserve.errors import GlmserveError
from glmserve.request import Request, RequestStatus

_MAX_TOKENS_PER_TAKE = 256
"""A consumer takes at most this many tokens at once. Converting thousands of tokens to text and
log-probabilities in one go would delay every other stream."""


class NewTokens(msgspec.Struct, frozen=True):
    """Tokens of one or more steps. No tokens: the request has ended."""

    token_ids: list[int]
    logprobs: list[Logprobs]
    """One per token if the request asks for them, else empty."""


class TokenStream:
    """The engine adds tokens once per step; one consumer takes them.

    A slow consumer finds several tokens at once. It delays neither the engine nor other streams.

    Args:
        request: the request, for its status.
        on_close: called with the request and its finished status when the consumer closes.
        arrival: clock reading when the request was submitted, seconds.
    """

    __slots__ = (
        "__weakref__",
        "_error",
        "_logprobs",
        "_on_close",
        "_tokens",
        "answer",
        "arrival",
        "begun",
        "first_token",
        "last_token",
        "on_ready",
        "request",
        "resumed",
        "worker_losses",
    )

    def __init__(
        self,
        request: Request,
        on_close: Callable[[Request, RequestStatus], None],
        arrival: float,
    ) -> None:
        self.request = request
        self.answer: Sequence[Request] = (request,)
        """The requests of all choices of the answer, this one included."""
        self.arrival = arrival
        """Clock reading when the request was submitted, seconds."""
        self.begun: float | None = None
        """Clock reading when the request was first given blocks, seconds."""
        self.resumed: list[float] = []
        """Clock readings when it was given blocks again, after a preemption or a lost worker."""
        self.worker_losses: list[float] = []
        """Clock readings when its worker was lost."""
        self.first_token: float | None = None
        """Clock reading when the first token was delivered, seconds."""
        self.last_token: float | None = None
        """Clock reading when the newest token was delivered, seconds."""
        self.on_ready: Callable[[], None] | None = None
        """Called when there is something to `take`; set by the consumer, see AnswerTokens."""
        self._on_close = on_close
        self._tokens: list[int] = []
        self._logprobs: list[Logprobs] = []
        self._error: GlmserveError | None = None

    @property
    def has_begun(self) -> bool:
        """Whether any request of the answer has ever been given blocks."""
        return any(request.status.has_begun for request in self.answer)

    @property
    def is_ready(self) -> bool:
        """Whether `take` returns tokens or the end, or raises."""
        return bool(self._tokens) or self._error is not None or self.request.status.is_finished

    @property
    def failed_without_tokens(self) -> GlmserveError | None:
        """The error of a request that failed before its consumer got a token."""
        return None if self._tokens else self._error

    def take(self) -> NewTokens | None:
        """The tokens that have arrived, or None if there are none yet.

        Raises:
            GlmserveError: the request failed. It is raised after all tokens are taken.
        """
        if self._tokens:
            most = _MAX_TOKENS_PER_TAKE
            token_ids, self._tokens = self._tokens[:most], self._tokens[most:]
            if not self._logprobs:
                return NewTokens(token_ids, [])
            logprobs, self._logprobs = self._logprobs[:most], self._logprobs[most:]
            return NewTokens(token_ids, logprobs)
        if self._error is not None:
            raise self._error
        return NewTokens([], []) if self.request.status.is_finished else None

    def close(self, status: RequestStatus = RequestStatus.FINISHED_ABORTED) -> None:
        """End the request if it is unfinished, and free its blocks now."""
        self._on_close(self.request, status)

    def push(self, token_id: int, logprobs: Logprobs | None, now: float) -> None:
        """Engine only: add a token."""
        self.last_token = now
        self._tokens.append(token_id)
        if logprobs is not None:
            self._logprobs.append(logprobs)
        if self.on_ready is not None:
            self.on_ready()

    def end(self) -> None:
        """Engine only: the request has ended without a further token."""
        self._wake()

    def fail(self, error: GlmserveError) -> None:
        """Engine only: raise `error` for the consumer, after the tokens that have arrived."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self.on_ready is not None:
            self.on_ready()
