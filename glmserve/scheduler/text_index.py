"""Finds where the end of a text occurred before, in the same text or in another one."""

from __future__ import annotations

from array import array
from typing import NamedTuple

_NO_POSITION = -1
LONGEST_MATCH = 8
"""Maximum number of tokens that are compared; longer matches predict no better."""
_MAX_CANDIDATES = 8
"""Maximum number of occurrences of a pair that are compared, the latest first."""
_MAX_INDEXED_PER_CALL = 2048
"""Tokens indexed in one call, about 1 ms of work. The event loop waits for it, so a long prompt is
indexed over several steps."""


class Match(NamedTuple):
    """An occurrence of a text's end."""

    position: int
    """After its last token."""
    length: int
    """Tokens that are equal, at most LONGEST_MATCH."""


class TextIndex:
    """A growing text, and where each pair of adjacent tokens occurs in it.

    The index is a chain of positions for each pair, as in LZ77. It takes about 130 bytes per
    token, far less than the token's K and V.
    """

    def __init__(self) -> None:
        self.text = array("i")
        # By pair: the position after its last indexed occurrence.
        self._latest: dict[int, int] = {}
        # By position: the position after the previous occurrence of the pair before it.
        # Positions 0 and 1 have no pair before them.
        self._earlier = array("i", [_NO_POSITION, _NO_POSITION])

    def index(self) -> bool:
        """Index further tokens. Returns whether every pair but the text's last one is indexed."""
        text, earlier, latest = self.text, self._earlier, self._latest
        first = len(earlier)
        last = min(len(text), first + _MAX_INDEXED_PER_CALL)
        for position in range(first, last):
            pair = _pair(text, position)
            earlier.append(latest.get(pair, _NO_POSITION))
            latest[pair] = position
        return last >= len(text)

    def find(self, tail: array[int]) -> Match | None:
        """The longest match of the end of `tail` (the latest of equally long ones), of at least two
        tokens; None: there is none."""
        end = len(tail)
        if end < 2:
            return None
        position = self._latest.get(_pair(tail, end), _NO_POSITION)
        best = None
        for _ in range(_MAX_CANDIDATES):
            if position == _NO_POSITION or (best and best.length == LONGEST_MATCH):
                break
            length = _match_length(self.text, position, tail, end)
            if best is None or length > best.length:
                best = Match(position, length)
            position = self._earlier[position]
        return best


def _pair(tokens: array[int], position: int) -> int:
    """The two tokens before `position`, packed into one integer."""
    return tokens[position - 2] << 32 | tokens[position - 1]


def _match_length(text: array[int], position: int, tail: array[int], end: int) -> int:
    """Number of equal tokens before `position` of one and `end` of the other, at most
    LONGEST_MATCH."""
    length = 0
    while (
        length < min(position, end, LONGEST_MATCH)
        and text[position - 1 - length] == tail[end - 1 - length]
    ):
        length += 1
    return length
