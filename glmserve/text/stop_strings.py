"""Ends a stream of text at the first stop string, without returning a part of one."""

from __future__ import annotations

from collections.abc import Sequence

from glmserve.errors import InvalidRequestError


class StopChecker:
    """Searches stop strings in text that arrives in pieces.

    The stop string that is complete first wins, because generation ends with it. If several are
    complete at the same character, the longest wins, so that no part of it is returned. The result
    does not depend on how the text is cut into pieces. It holds back only the end of the text that
    may still become a stop string: at most the length of the longest one minus one.

    Args:
        stop_strings: non-empty strings.
        include: the text ends after the stop string instead of before it.

    Raises:
        InvalidRequestError: a stop string is empty.
    """

    __slots__ = ("_held", "_include", "_searches", "_stopped")

    def __init__(self, stop_strings: Sequence[str], include: bool = False) -> None:
        if not all(stop_strings):
            raise InvalidRequestError("a stop string must not be empty", param="stop")
        self._searches = [_Search(stop) for stop in stop_strings]
        self._include = include
        self._held = ""
        self._stopped: str | None = None

    def push(self, text: str) -> tuple[str, str | None]:
        """Add text.

        Returns:
            The text that can be returned now, and the stop string that ended it, or None.
        """
        if self._stopped is not None:
            return "", self._stopped
        ends = [(search.feed(text), -len(search.string)) for search in self._searches]
        found = [(*end, index) for index, end in enumerate(ends) if end[0]]
        end_of_held = len(self._held)
        text = self._held + text
        if found:
            end, _, index = min(found)
            self._stopped = stop = self._searches[index].string
            self._held = ""
            end += end_of_held
            return text[: end if self._include else end - len(stop)], stop
        hold_from = len(text) - max((search.matched for search in self._searches), default=0)
        self._held = text[hold_from:]
        return text[:hold_from], None

    def flush(self) -> str:
        """End the text; returns the part that was held back."""
        text, self._held = self._held, ""
        return text


class _Search:
    """Searches one string in text that arrives in pieces, in linear time for any text.

    The algorithm is from D. Knuth, J. Morris, V. Pratt, "Fast Pattern Matching in Strings", 1977.
    """

    __slots__ = ("_borders", "matched", "string")

    def __init__(self, string: str) -> None:
        self.string = string
        self.matched = 0
        """Length of the string's longest prefix that ends the text so far."""
        self._borders = [0]
        """Index n - 1: length of the longest proper suffix of the prefix of length n that is also
        a prefix of the string."""

    def feed(self, text: str) -> int:
        """Add text. Returns the end of the first occurrence in `text`, or 0 if there is none."""
        string, matched = self.string, self.matched
        start = 0 if matched else text.find(string[0])
        if start < 0:
            return 0
        for position in range(start, len(text)):
            matched = self._advance(matched, text[position])
            if matched == len(string):
                return position + 1
        self.matched = matched
        return 0

    def _advance(self, matched: int, character: str) -> int:
        """Length of the matched prefix after one more character."""
        while matched and self.string[matched] != character:
            matched = self._border(matched)
        return matched + (self.string[matched] == character)

    def _border(self, length: int) -> int:
        """Border length of the prefix of this length. Borders are computed when needed."""
        borders = self._borders
        while len(borders) < length:
            borders.append(self._advance(borders[-1], self.string[len(borders)]))
        return borders[length - 1]
