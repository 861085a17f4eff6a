"""Converts the tokens of one request to text while they are generated."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from glmserve.contract.step import Logprobs
from glmserve.engine import NewTokens
from glmserve.request import SamplingParams
from glmserve.text.detokenizer import IncrementalDetokenizer
from glmserve.text.response_filter import ResponseFilter
from glmserve.text.stop_strings import StopChecker
from glmserve.text.tokenizer import Tokenizer


class ScoredToken(NamedTuple):
    """A token and its log-probabilities."""

    token_id: int
    logprobs: Logprobs


class TextDelta(msgspec.Struct, frozen=True):
    """New tokens, and the text that is settled with them. Either may be empty."""

    text: str
    token_ids: list[int]
    scored: list[ScoredToken]
    """Tokens with text that this delta settles, if the request asks for log-probabilities."""


@dataclass(frozen=True)
class TextOptions:
    """The fields of a request that shape its text."""

    stop_strings: tuple[str, ...] = ()
    """The text ends before the first of them."""
    include_stop: bool = False
    """Keep the stop string or stop token in the text."""
    skip_special_tokens: bool = True
    """True: special tokens add no text. False: they add their names."""
    continues_text: bool = False
    """The text continues another one, so that its leading blank counts."""


class TextAssembler:
    """Detokenizes, applies the chat format's filter, and ends the text at stop strings.

    Text is settled when no later token can change it. A delta never ends within a character, and
    never contains the beginning of a stop string.

    Args:
        params: the request's parameters. Its stop tokens have no text; before `min_tokens` stop
            strings are ignored.
        tokenizer: None leaves all text empty, for servers without a tokenizer.
        options: stop strings and special tokens.
        response_filter: the chat format's filter, or None.
    """

    __slots__ = (
        "_detokenizer",
        "_filter",
        "_held",
        "_hidden_ids",
        "_hidden_stop_token",
        "_min_tokens",
        "_num_released",
        "_num_written",
        "_stop",
        "num_output_tokens",
        "stop_string",
        "stop_token",
    )

    def __init__(
        self,
        params: SamplingParams,
        tokenizer: Tokenizer | None,
        options: TextOptions = TextOptions(),
        response_filter: ResponseFilter | None = None,
    ) -> None:
        self.num_output_tokens = 0
        self.stop_string: str | None = None
        """The stop string that ended the text, if one did."""
        self.stop_token: ScoredToken | None = None
        """The stop token that ended the text and is not part of it, if the request asks for
        log-probabilities."""
        self._min_tokens = params.min_tokens
        self._detokenizer = (
            IncrementalDetokenizer(
                tokenizer, options.skip_special_tokens, continues_text=options.continues_text
            )
            if tokenizer
            else None
        )
        self._filter = response_filter
        self._stop = (
            StopChecker(options.stop_strings, options.include_stop)
            if options.stop_strings
            else None
        )
        self._hidden_ids = frozenset() if options.include_stop else params.stop_token_ids
        self._hidden_stop_token: ScoredToken | None = None
        self._num_written = 0
        """Characters produced."""
        self._num_released = 0
        """Characters already released."""
        self._held: deque[tuple[int, ScoredToken]] = deque()
        """Scored tokens with unsettled text, each with the number of characters up to its end."""

    def push(self, new: NewTokens) -> TextDelta:
        """Add tokens; returns what they settle. If a stop string ends the text, `stop_string` is
        set."""
        token_ids = new.token_ids
        if self._detokenizer is None:
            scored = [ScoredToken(*pair) for pair in zip(token_ids, new.logprobs, strict=False)]
            delta = TextDelta("", token_ids, scored)
        elif self._stop is not None or new.logprobs:
            delta = self._read_one_by_one(new)
        else:
            text = self._filtered(self._detokenizer.push(self._visible(token_ids)))
            delta = TextDelta(text, token_ids, [])
        self.num_output_tokens += len(delta.token_ids)
        return delta

    def finish(self) -> TextDelta | None:
        """End the text after its last token; returns what was held back, or None."""
        if self._detokenizer is None:
            return None
        rest = self._settle_rest(self._detokenizer.flush())
        scored = self._release()
        if self.stop_string is None:
            self.stop_token = self._hidden_stop_token
        return TextDelta(rest, [], scored) if rest or scored else None

    def _visible(self, token_ids: list[int]) -> list[int]:
        """The tokens that have text: all but a stop token."""
        return token_ids[:-1] if token_ids[-1] in self._hidden_ids else token_ids

    def _read_one_by_one(self, new: NewTokens) -> TextDelta:
        """Convert token by token, because any of several tokens may end the text. Tokens after a
        stop string are dropped."""
        assert self._detokenizer is not None
        visible = self._visible(new.token_ids)
        if new.logprobs and len(visible) < len(new.token_ids):
            self._hidden_stop_token = ScoredToken(new.token_ids[-1], new.logprobs[-1])
        text = ""
        for index, token_id in enumerate(visible):
            written = self._filtered(self._detokenizer.push([token_id]))
            self._num_written += len(written)
            if new.logprobs:
                self._held.append((self._num_written, ScoredToken(token_id, new.logprobs[index])))
            may_stop = self.num_output_tokens + index >= self._min_tokens
            released_text = self._until_stop(written) if may_stop else written
            self._num_released += len(released_text)
            text += released_text
            if self.stop_string is not None:
                return TextDelta(text, new.token_ids[: index + 1], self._release())
        return TextDelta(text, new.token_ids, self._release())

    def _release(self) -> list[ScoredToken]:
        """Remove and return the held tokens with settled text."""
        released = []
        while self._held and self._held[0][0] <= self._num_released:
            released.append(self._held.popleft()[1])
        return released

    def _filtered(self, text: str) -> str:
        return self._filter.push(text) if self._filter else text

    def _until_stop(self, text: str) -> str:
        """The part of new text that can be released now. Sets `stop_string` if one is found."""
        if self._stop and text:
            text, self.stop_string = self._stop.push(text)
        return text

    def _settle_rest(self, text: str) -> str:
        """The end of the text, with everything that was held back."""
        if self._filter:
            text = self._filter.push(text) + self._filter.flush()
        if self._stop:
            released_text, self.stop_string = self._stop.push(text)
            text = released_text + self._stop.flush()
        self._num_released = (
            self._num_written if self.stop_string is None else self._num_released + len(text)
        )
        return text
