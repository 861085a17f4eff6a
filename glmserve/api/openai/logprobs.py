"""Log-probabilities in the shapes of chat completions and of the older text completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from glmserve.api.openai.chat_objects import ChoiceLogprobs, ContentLogprob, TokenLogprob
from glmserve.api.openai.completion_objects import LegacyLogprobs
from glmserve.api.openai.prompt_logprobs import LOWEST
from glmserve.contract.step import Logprobs
from glmserve.text.detokenizer import IncrementalDetokenizer
from glmserve.text.text_assembler import ScoredToken
from glmserve.text.tokenizer import Tokenizer

_TOKEN_ID = "token_id:{}"

_UNKNOWN = Logprobs(0.0, [], [])


class ChatLogprobs:
    """Log-probabilities of one chat choice, as its tokens come.

    Args:
        continues_text: the answer continues a message.
        lists_chosen: the chosen token is the first of the alternatives.
        as_token_ids: tokens are spelled by their ids.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        continues_text: bool = False,
        lists_chosen: bool = False,
        as_token_ids: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._lists_chosen = lists_chosen
        self._as_token_ids = as_token_ids
        self._at_start = not continues_text

    def push(self, tokens: Iterable[ScoredToken]) -> ChoiceLogprobs:
        """The object for these tokens."""
        return ChoiceLogprobs([self._token(token) for token in tokens])

    def _token(self, token: ScoredToken) -> ContentLogprob:
        logprobs = token.logprobs
        own = self._entry(token.token_id, logprobs.logprob)
        top = dict(zip(logprobs.top_ids, logprobs.top_logprobs, strict=True))
        if self._lists_chosen:
            top = {token.token_id: logprobs.logprob, **top}
        alternatives = [self._entry(token_id, logprob) for token_id, logprob in top.items()]
        self._at_start = False
        return ContentLogprob(own.token, own.logprob, own.bytes, alternatives)

    def _entry(self, token_id: int, logprob: float) -> TokenLogprob:
        data = _spell(self._tokenizer, token_id, self._at_start)
        name = _TOKEN_ID.format(token_id) if self._as_token_ids else data.decode("utf-8", "replace")
        return TokenLogprob(name, max(logprob, LOWEST), list(data))


class CompletionLogprobs:
    """Log-probabilities of one text choice, as its tokens come.

    Args:
        tokenizer: None spells tokens by their ids.
        skip_special_tokens: what the text does, as offsets are those of the text.
        continues_text: the text continues another one, which is not part of it.
        as_token_ids: spells tokens by their ids.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        skip_special_tokens: bool,
        *,
        continues_text: bool = False,
        as_token_ids: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._as_token_ids = as_token_ids or tokenizer is None
        self._continues_text = continues_text
        self._detokenizer = (
            IncrementalDetokenizer(tokenizer, skip_special_tokens, continues_text=continues_text)
            if tokenizer
            else None
        )
        self._offset = 0

    def push_prompt(
        self, prompt_ids: Sequence[int], logprobs: Sequence[Logprobs], num_top: int
    ) -> LegacyLogprobs:
        """The object for an echoed prompt; its first token has no log-probability.

        Args:
            num_top: the most likely tokens to show at each place; `logprobs` may have more.
        """
        shown = [
            Logprobs(s.logprob, s.top_ids[:num_top], s.top_logprobs[:num_top]) for s in logprobs
        ]
        scored = zip(prompt_ids, [_UNKNOWN, *shown], strict=True)
        shape = self.push(ScoredToken(*pair) for pair in scored)
        shape.token_logprobs[0] = shape.top_logprobs[0] = None
        return shape

    def push(self, tokens: Iterable[ScoredToken]) -> LegacyLogprobs:
        """The object for these tokens."""
        shape = LegacyLogprobs([], [], [], [])
        for token_id, logprobs in tokens:
            own = self._spell(token_id)
            logprob = max(logprobs.logprob, LOWEST)
            # Of several tokens that are spelled alike, the most likely one is shown.
            by_name = {own: logprob}
            for top_id, value in zip(logprobs.top_ids, logprobs.top_logprobs, strict=True):
                by_name.setdefault(self._spell(top_id), max(value, LOWEST))
            shape.tokens.append(own)
            shape.token_logprobs.append(logprob)
            shape.top_logprobs.append(by_name)
            shape.text_offset.append(self._offset)
            if self._detokenizer is not None:
                self._offset += len(self._detokenizer.push([token_id]))
        return shape

    def _spell(self, token_id: int) -> str:
        if self._as_token_ids or self._tokenizer is None:
            return _TOKEN_ID.format(token_id)
        at_start = self._offset == 0 and not self._continues_text
        data = _spell(self._tokenizer, token_id, at_start)
        try:
            return data.decode()
        except UnicodeDecodeError:  # part of a character, as OpenAI writes it
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _spell(tokenizer: Tokenizer, token_id: int, at_start: bool) -> bytes:
    """The bytes of a token, without a leading blank that the text does not show."""
    data = tokenizer.token_bytes(token_id, skip_special_tokens=False)
    return data[1:] if at_start and tokenizer.opens_with_blank(token_id) else data
