"""Guesses what a text goes on with by looking where its last tokens stood before."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

_NOWHERE = -1
_LONGEST_MATCH = 8
"""Tokens that are compared; longer matches are no better."""
_PLACES_COMPARED = 8
"""Of a pair of tokens that is everywhere, only so many of the latest places are looked at."""
_INDEXED_AT_ONCE = 2048
"""Some 1 ms of work: a long prompt is indexed over several steps, as the event loop waits."""


class PromptLookup:
    """Finds the continuation of the longest earlier match of a text's end.

    A match has two tokens at least. The index is a chain of places for each pair of neighbours, as
    in LZ77; it takes some 130 bytes per token, a small part of what their K and V take.

    "Prompt lookup decoding" is due to A. Saxena, 2023.

    Args:
        before: what stands before the text, to be found like any other part of it.
    """

    def __init__(self, before: Sequence[int] = ()) -> None:
        self._text = array("i", before)
        self._num_before = len(before)
        self._latest: dict[int, int] = {}  # by pair: the place behind its last occurrence
        self._earlier = array("i", [_NOWHERE, _NOWHERE])  # by place: behind the one before that
        # Places 0 and 1 have no pair in front of them.

    def continuation(self, tokens: array[int], count: int) -> list[int]:
        """Up to `count` guesses of what follows `tokens`, int32; none if nothing matches.

        `tokens` must be those of the call before, or more. Goes on over the end of the text as if
        it had been extended with the guesses already: a loop goes on for ever.
        """
        text = self._text
        text.extend(tokens[len(text) - self._num_before :])
        if not self._index():
            return []
        place = self._best_place()
        if place == _NOWHERE:
            return []
        distance = len(text) - place
        guesses = text[place : place + count].tolist()
        while len(guesses) < count:
            guesses.append(guesses[-distance])
        return guesses

    def _index(self) -> bool:
        """Take in further tokens; whether all but the end itself are in the index."""
        text, earlier, latest = self._text, self._earlier, self._latest
        first = len(earlier)
        last = min(len(text), first + _INDEXED_AT_ONCE)
        for place in range(first, last):
            pair = _pair(text, place)
            earlier.append(latest.get(pair, _NOWHERE))
            latest[pair] = place
        return last >= len(text)

    def _best_place(self) -> int:
        """The place behind the longest match, the latest of several."""
        text = self._text
        end = len(text)
        if end < 2:
            return _NOWHERE
        place = self._latest.get(_pair(text, end), _NOWHERE)
        best, best_length = _NOWHERE, 0
        for _ in range(_PLACES_COMPARED):
            if place == _NOWHERE or best_length == _LONGEST_MATCH:
                break
            length = _match_length(text, place, end)
            if length > best_length:
                best, best_length = place, length
            place = self._earlier[place]
        return best


def _pair(tokens: array[int], place: int) -> int:
    """The two tokens before a place, as one number."""
    return tokens[place - 2] << 32 | tokens[place - 1]


def _match_length(tokens: array[int], place: int, end: int) -> int:
    """How many tokens before `place` are those before `end`, up to _LONGEST_MATCH."""
    length = 0
    while (
        length < min(place, _LONGEST_MATCH)
        and tokens[place - 1 - length] == tokens[end - 1 - length]
    ):
        length += 1
    return length
