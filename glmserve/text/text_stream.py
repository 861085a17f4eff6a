"""The text of one request as it is generated: tokens in, settled text out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from glmserve.engine import TokenStream
from glmserve.request import FINISH_REASONS, RequestStatus
from glmserve.text.detokenizer import IncrementalDetokenizer
from glmserve.text.response_filter import ResponseFilter
from glmserve.text.stop_strings import StopChecker
from glmserve.text.tokenizer import Tokenizer


class TextDelta(NamedTuple):
    """Tokens of one step, and the text that is settled by them; either may be empty."""

    text: str
    token_ids: list[int]


class TextStream:
    """Detokenises, applies the chat format's filter and stops at stop strings.

    Args:
        tokens: the engine's stream; closed with this one.
        tokenizer: None leaves all text empty, for servers without a tokenizer.
        stop_strings: the text ends before the first of them.
        response_filter: what the model family does to its responses, if anything.
    """

    def __init__(
        self,
        tokens: TokenStream,
        tokenizer: Tokenizer | None,
        stop_strings: Sequence[str] = (),
        response_filter: ResponseFilter | None = None,
    ) -> None:
        self._tokens = tokens
        self._detokenizer = IncrementalDetokenizer(tokenizer) if tokenizer else None
        self._filter = response_filter
        self._stop = StopChecker(stop_strings) if stop_strings else None
        self._stopped_by_string = False
        self.num_output_tokens = 0

    @property
    def num_prompt_tokens(self) -> int:
        return self._tokens.request.num_prompt_tokens

    @property
    def num_cached_tokens(self) -> int:
        """Prompt tokens taken from the prefix cache."""
        return self._tokens.request.num_cached_tokens

    @property
    def prompt_ids(self) -> list[int]:
        return self._tokens.request.prompt_ids

    @property
    def finish_reason(self) -> str:
        """Why the text ended, once it has."""
        if self._stopped_by_string:
            return "stop"
        return FINISH_REASONS[self._tokens.request.status]

    def close(self) -> None:
        """Abort the request if it is still running. Needed on every path, finished or not."""
        self._tokens.close()

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        """Deltas until the text ends.

        Raises:
            GlmserveError: the request failed.
        """
        stop_ids = self._tokens.request.params.stop_token_ids
        while token_ids := await self._tokens.next_tokens():
            delta = self._read(token_ids, stop_ids)
            self.num_output_tokens += len(delta.token_ids)
            if self._stopped_by_string:
                self._tokens.close(RequestStatus.FINISHED_STOPPED)
                yield delta
                return
            yield delta
        if self._detokenizer and (rest := self._settle_rest(self._detokenizer.flush())):
            yield TextDelta(rest, [])

    def _read(self, token_ids: list[int], stop_ids: frozenset[int]) -> TextDelta:
        """The text that these tokens settle, and those of them that belong to the response.

        A slow reader gets many at once; they are read one by one where a stop string may end the
        response among them.
        """
        if self._detokenizer is None:
            return TextDelta("", token_ids)
        spoken = token_ids[:-1] if token_ids[-1] in stop_ids else token_ids
        if self._stop is None:
            return TextDelta(self._settle(self._detokenizer.push(spoken)), token_ids)
        text = ""
        for number, token_id in enumerate(spoken, 1):
            text += self._settle(self._detokenizer.push([token_id]))
            if self._stopped_by_string:
                return TextDelta(text, token_ids[:number])
        return TextDelta(text, token_ids)

    def _settle(self, text: str) -> str:
        """What of this new text can be shown now."""
        if self._filter:
            text = self._filter.push(text)
        if self._stop and text:
            text, stop_string = self._stop.push(text)
            self._stopped_by_string = stop_string is not None
        return text

    def _settle_rest(self, text: str) -> str:
        """The end of the text, everything that was held back included."""
        if self._filter:
            text = self._filter.push(text) + self._filter.flush()
        if self._stop:
            shown, stop_string = self._stop.push(text)
            self._stopped_by_string = stop_string is not None
            text = shown + self._stop.flush()
        return text
