"""Prompt lookup: guesses a text's next tokens from an earlier occurrence of its last tokens."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from glmserve.scheduler.text_index import TextIndex


class PromptLookup:
    """Finds the continuation of the longest earlier match of a text's end.

    The method is "prompt lookup decoding" (A. Saxena, 2023).

    Args:
        before: token ids that precede the text; matches may lie in them.
    """

    def __init__(self, before: Sequence[int] = ()) -> None:
        self._index = TextIndex()
        self._index.text.extend(before)
        self._num_before = len(before)
        self.match_length = 0
        """Tokens that matched in the last call of `continuation`; 0: nothing did."""

    def continuation(self, tokens: array[int], count: int) -> list[int]:
        """Up to `count` guesses of the tokens after `tokens`; empty if nothing matches.

        A continuation that reaches the end of the text goes on with its own guesses, so a repeated
        sequence is repeated again.

        Args:
            tokens: int32 token ids; must begin with the tokens of the call before.
        """
        text = self._index.text
        text.extend(tokens[len(text) - self._num_before :])
        self.match_length = 0
        match = self._index.find(text) if self._index.index() else None
        if match is None:
            return []
        self.match_length = match.length
        distance = len(text) - match.position
        guesses = text[match.position : match.position + count].tolist()
        while len(guesses) < count:
            guesses.append(guesses[-distance])
        return guesses
