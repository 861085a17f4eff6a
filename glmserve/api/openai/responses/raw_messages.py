"""`enable_response_messages`: prompt and answer of a response as text and as token ids."""

from __future__ import annotations

from collections.abc import Sequence

from glmserve.api.openai.responses.objects import RawMessage
from glmserve.text.tokenizer import Tokenizer


class RawMessages:
    """Collects the tokens of one response.

    Args:
        tokenizer: spells them; special tokens by their names.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._answer: list[int] = []

    def add(self, token_ids: Sequence[int]) -> None:
        """Note tokens of the answer."""
        self._answer += token_ids

    def prompt(self, token_ids: list[int]) -> RawMessage:
        """The prompt."""
        return self._message(token_ids)

    def answer(self) -> RawMessage:
        """The answer as far as it has come."""
        return self._message(self._answer)

    def _message(self, token_ids: list[int]) -> RawMessage:
        return RawMessage(self._tokenizer.decode(token_ids, skip_special_tokens=False), token_ids)
