"""The text of one request as it is generated: tokens in, settled text out."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from glmserve.contract.step import Logprobs
from glmserve.engine import NewTokens
from glmserve.request import FINISH_REASONS, Request, RequestStatus
from glmserve.text.detokenizer import IncrementalDetokenizer
from glmserve.text.response_filter import ResponseFilter
from glmserve.text.stop_strings import StopChecker
from glmserve.text.tokenizer import Tokenizer


class ScoredToken(NamedTuple):
    """A token and its log-probabilities."""

    token_id: int
    logprobs: Logprobs


class TextDelta(NamedTuple):
    """Tokens of one step, and the text that is settled by them; either may be empty."""

    text: str
    token_ids: list[int]
    scored: list[ScoredToken]
    """If the request wants log-probabilities: the tokens that all of the text so far consists of,
    less those of earlier deltas."""


@dataclass(frozen=True)
class TextOptions:
    """What a request says about its text."""

    stop_strings: tuple[str, ...] = ()
    """The text ends before the first of them."""
    include_stop: bool = False
    """The text ends behind what stopped it, be it a string or a token."""
    skip_special_tokens: bool = True
    """Special tokens have no text; otherwise their names are it."""


class TokenSource(Protocol):
    """Where a text's tokens come from: a TokenStream, or what stands in for one."""

    answer: Sequence[Request]

    @property
    def request(self) -> Request: ...

    async def wait_first(self) -> None: ...

    async def next_tokens(self) -> NewTokens: ...

    def close(self, status: RequestStatus = ...) -> None: ...


class TextStream:
    """Detokenises, applies the chat format's filter and stops at stop strings.

    Args:
        tokens: closed with this one.
        tokenizer: None leaves all text empty, for servers without a tokenizer.
        options: see there.
        response_filter: what the model family does to its responses, if anything.
    """

    def __init__(
        self,
        tokens: TokenSource,
        tokenizer: Tokenizer | None,
        options: TextOptions = TextOptions(),
        response_filter: ResponseFilter | None = None,
    ) -> None:
        self.request = tokens.request
        self.num_output_tokens = 0
        self.stop_string: str | None = None
        """What ended the text, if it was a stop string."""
        self.stop_token: ScoredToken | None = None
        """What ended the text without being part of it, if it was a token and the request wants
        log-probabilities."""
        self._tokens = tokens
        self._detokenizer = (
            IncrementalDetokenizer(tokenizer, options.skip_special_tokens) if tokenizer else None
        )
        self._filter = response_filter
        self._stop = (
            StopChecker(options.stop_strings, options.include_stop)
            if options.stop_strings
            else None
        )
        self._silent_ids = (
            frozenset() if options.include_stop else tokens.request.params.stop_token_ids
        )
        self._unspoken: ScoredToken | None = None
        self._num_written = 0  # characters, of which the first
        self._num_shown = 0  # are settled
        self._held: deque[tuple[int, ScoredToken]] = deque()  # each with the characters up to it

    async def wait_first(self) -> None:
        """See TokenStream.wait_first."""
        await self._tokens.wait_first()

    @property
    def finish_reason(self) -> str:
        """Why the text ended, once it has."""
        if self.stop_string is not None:
            return "stop"
        return FINISH_REASONS[self.request.status]

    def join(self, answer: Sequence[Request]) -> None:
        """Make one answer together with others: they are sent away together, or not at all."""
        self._tokens.answer = answer

    def close(self) -> None:
        """Abort the request if it is still running. Needed on every path, finished or not."""
        self._tokens.close()

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        """Deltas until the text ends.

        Raises:
            GlmserveError: the request failed.
        """
        while (new := await self._tokens.next_tokens()).token_ids:
            delta = self._read(new)
            self.num_output_tokens += len(delta.token_ids)
            if self.stop_string is not None:
                self._tokens.close(RequestStatus.FINISHED_STOPPED)
                yield delta
                return
            yield delta
        if self._detokenizer is None:
            return
        rest = self._settle_rest(self._detokenizer.flush())
        scored = self._release()
        if self.stop_string is None:
            self.stop_token = self._unspoken
        if rest or scored:
            yield TextDelta(rest, [], scored)

    def _read(self, new: NewTokens) -> TextDelta:
        """The text that these tokens settle, and those of them that belong to the response."""
        token_ids = new.token_ids
        if self._detokenizer is None:
            scored = [ScoredToken(*pair) for pair in zip(token_ids, new.logprobs, strict=False)]
            return TextDelta("", token_ids, scored)
        spoken = token_ids
        if token_ids[-1] in self._silent_ids:
            spoken = token_ids[:-1]
            if new.logprobs:
                self._unspoken = ScoredToken(token_ids[-1], new.logprobs[-1])
        if self._stop is not None or new.logprobs:
            return self._read_one_by_one(spoken, new)
        return TextDelta(self._filtered(self._detokenizer.push(spoken)), token_ids, [])

    def _read_one_by_one(self, spoken: list[int], new: NewTokens) -> TextDelta:
        """A slow reader gets many tokens at once, any of which may complete a stop string."""
        assert self._detokenizer is not None
        text = ""
        for index, token_id in enumerate(spoken):
            written = self._filtered(self._detokenizer.push([token_id]))
            self._num_written += len(written)
            if new.logprobs:
                self._held.append((self._num_written, ScoredToken(token_id, new.logprobs[index])))
            may_stop = self.num_output_tokens + index >= self.request.params.min_tokens
            shown = self._checked(written) if may_stop else written
            self._num_shown += len(shown)
            text += shown
            if self.stop_string is not None:
                return TextDelta(text, new.token_ids[: index + 1], self._release())
        return TextDelta(text, new.token_ids, self._release())

    def _release(self) -> list[ScoredToken]:
        """Held tokens whose text is settled: none gives away a part of a stop string."""
        released = []
        while self._held and self._held[0][0] <= self._num_shown:
            released.append(self._held.popleft()[1])
        return released

    def _filtered(self, text: str) -> str:
        return self._filter.push(text) if self._filter else text

    def _checked(self, text: str) -> str:
        """What of this new text can be shown now."""
        if self._stop and text:
            text, self.stop_string = self._stop.push(text)
        return text

    def _settle_rest(self, text: str) -> str:
        """The end of the text, everything that was held back included."""
        if self._filter:
            text = self._filter.push(text) + self._filter.flush()
        if self._stop:
            shown, self.stop_string = self._stop.push(text)
            text = shown + self._stop.flush()
        self._num_shown = (
            self._num_written if self.stop_string is None else self._num_shown + len(text)
        )
        return text
