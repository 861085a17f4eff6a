"""Log-probabilities in the shapes of chat completions and of the older text completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from glmserve.api.openai.chat_objects import ChoiceLogprobs, ContentLogprob, TokenLogprob
from glmserve.api.openai.completion_objects import LegacyLogprobs
from glmserve.contract.step import Logprobs
from glmserve.text.detokenizer import IncrementalDetokenizer
from glmserve.text.text_assembler import ScoredToken
from glmserve.text.tokenizer import Tokenizer

_LOWEST = -9999.0
"""OpenAI's number for a token with probability 0: JSON has no infinity."""

_UNKNOWN = Logprobs(0.0, [], [])


class ChatLogprobs:
    """Log-probabilities of one chat choice, as its tokens come.

    Args:
        continues_text: the answer continues a message.
    """

    def __init__(self, tokenizer: Tokenizer, *, continues_text: bool = False) -> None:
        self._tokenizer = tokenizer
        self._at_start = not continues_text

    def push(self, tokens: Iterable[ScoredToken]) -> ChoiceLogprobs:
        """The object for these tokens."""
        return ChoiceLogprobs([self._token(token) for token in tokens])

    def _token(self, token: ScoredToken) -> ContentLogprob:
        logprobs = token.logprobs
        own = self._entry(token.token_id, logprobs.logprob)
        top = zip(logprobs.top_ids, logprobs.top_logprobs, strict=True)
        alternatives = [self._entry(token_id, logprob) for token_id, logprob in top]
        self._at_start = False
        return ContentLogprob(own.token, own.logprob, own.bytes, alternatives)

    def _entry(self, token_id: int, logprob: float) -> TokenLogprob:
        data = _spell(self._tokenizer, token_id, self._at_start)
        return TokenLogprob(data.decode("utf-8", "replace"), max(logprob, _LOWEST), list(data))


class CompletionLogprobs:
    """Log-probabilities of one text choice, as its tokens come.

    Args:
        tokenizer: None spells tokens by their ids.
        skip_special_tokens: what the text does, as offsets are those of the text.
    """

    def __init__(self, tokenizer: Tokenizer | None, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = (
            IncrementalDetokenizer(tokenizer, skip_special_tokens) if tokenizer else None
        )
        self._offset = 0

    def push_prompt(
        self, prompt_ids: Sequence[int], logprobs: Sequence[Logprobs]
    ) -> LegacyLogprobs:
        """The object for an echoed prompt; its first token has no log-probability."""
        scored = zip(prompt_ids, [_UNKNOWN, *logprobs], strict=True)
        shape = self.push(ScoredToken(*pair) for pair in scored)
        shape.token_logprobs[0] = shape.top_logprobs[0] = None
        return shape

    def push(self, tokens: Iterable[ScoredToken]) -> LegacyLogprobs:
        """The object for these tokens."""
        shape = LegacyLogprobs([], [], [], [])
        for token_id, logprobs in tokens:
            own = self._spell(token_id)
            logprob = max(logprobs.logprob, _LOWEST)
            # Of several tokens that are spelled alike, the most likely one is shown.
            by_name = {own: logprob}
            for top_id, value in zip(logprobs.top_ids, logprobs.top_logprobs, strict=True):
                by_name.setdefault(self._spell(top_id), max(value, _LOWEST))
            shape.tokens.append(own)
            shape.token_logprobs.append(logprob)
            shape.top_logprobs.append(by_name)
            shape.text_offset.append(self._offset)
            if self._detokenizer is not None:
                self._offset += len(self._detokenizer.push([token_id]))
        return shape

    def _spell(self, token_id: int) -> str:
        if self._tokenizer is None:
            return f"token_id:{token_id}"
        data = _spell(self._tokenizer, token_id, self._offset == 0)
        try:
            return data.decode()
        except UnicodeDecodeError:  # part of a character, as OpenAI writes it
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _spell(tokenizer: Tokenizer, token_id: int, at_start: bool) -> bytes:
    """The bytes of a token, without a leading blank that the text does not show."""
    data = tokenizer.token_bytes(token_id, skip_special_tokens=False)
    return data[1:] if at_start and tokenizer.opens_with_blank(token_id) else data
