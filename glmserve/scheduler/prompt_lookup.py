"""Prompt lookup: guesses a text's next tokens from an earlier occurrence of its last tokens."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

_NO_POSITION = -1
LONGEST_MATCH = 8
"""Maximum number of tokens that are compared; longer matches predict no better."""
_MAX_CANDIDATES = 8
"""Maximum number of occurrences of a pair that are compared, the latest first."""
_MAX_INDEXED_PER_CALL = 2048
"""Tokens indexed in one call, about 1 ms of work. The event loop waits for it, so a long prompt is
indexed over several steps."""


class PromptLookup:
    """Finds the continuation of the longest earlier match of a text's end.

    A match has at least two tokens. The index is a chain of positions for each pair of adjacent
    tokens, as in LZ77. It takes about 130 bytes per token, far less than the token's K and V.

    The method is "prompt lookup decoding" (A. Saxena, 2023).

    Args:
        before: token ids that precede the text; matches may lie in them.
    """

    def __init__(self, before: Sequence[int] = ()) -> None:
        self._text = array("i", before)
        self._num_before = len(before)
        # By pair: the position after its last indexed occurrence.
        self._latest: dict[int, int] = {}
        # By position: the position after the previous occurrence of the pair before it.
        # Positions 0 and 1 have no pair before them.
        self._earlier = array("i", [_NO_POSITION, _NO_POSITION])
        self.match_length = 0
        """Tokens that matched in the last call of `continuation`; 0: nothing did."""

    def continuation(self, tokens: array[int], count: int) -> list[int]:
        """Up to `count` guesses of the tokens after `tokens`; empty if nothing matches.

        A continuation that reaches the end of the text goes on with its own guesses, so a repeated
        sequence is repeated again.

        Args:
            tokens: int32 token ids; must begin with the tokens of the call before.
        """
        text = self._text
        text.extend(tokens[len(text) - self._num_before :])
        self.match_length = 0
        if not self._index():
            return []
        position = self._best_position()
        if position == _NO_POSITION:
            return []
        distance = len(text) - position
        guesses = text[position : position + count].tolist()
        while len(guesses) < count:
            guesses.append(guesses[-distance])
        return guesses

    def _index(self) -> bool:
        """Index further tokens. Returns whether every pair but the text's last one is indexed."""
        text, earlier, latest = self._text, self._earlier, self._latest
        first = len(earlier)
        last = min(len(text), first + _MAX_INDEXED_PER_CALL)
        for position in range(first, last):
            pair = _pair(text, position)
            earlier.append(latest.get(pair, _NO_POSITION))
            latest[pair] = position
        return last >= len(text)

    def _best_position(self) -> int:
        """The position after the longest match (the latest of equally long ones)."""
        text = self._text
        end = len(text)
        if end < 2:
            return _NO_POSITION
        position = self._latest.get(_pair(text, end), _NO_POSITION)
        best, best_length = _NO_POSITION, 0
        for _ in range(_MAX_CANDIDATES):
            if position == _NO_POSITION or best_length == LONGEST_MATCH:
                break
            length = _match_length(text, position, end)
            if length > best_length:
                best, best_length = position, length
            position = self._earlier[position]
        self.match_length = best_length
        return best


def _pair(tokens: array[int], position: int) -> int:
    """The two tokens before `position`, packed into one integer."""
    return tokens[position - 2] << 32 | tokens[position - 1]


def _match_length(tokens: array[int], position: int, end: int) -> int:
    """Number of equal tokens before `position` and before `end`, at most LONGEST_MATCH."""
    length = 0
    while (
        length < min(position, LONGEST_MATCH)
        and tokens[position - 1 - length] == tokens[end - 1 - length]
    ):
        length += 1
    return length
