"""Ends a stream of text at the first stop string, without ever showing a part of one."""

from __future__ import annotations

from collections.abc import Sequence

from glmserve.errors import InvalidRequestError


class StopChecker:
    """Looks for stop strings in text that arrives in pieces.

    The stop string that is complete first wins, as generation ends with it; of those that are
    complete at the same character the longest, so that nothing of it is shown. The result does
    not depend on how the text is cut into pieces. Held back is exactly the end of the text that
    could still become a stop string, so at most the length of the longest one less one.

    Callers skip this class where there is nothing to look for. With `include` the text shown ends
    behind the stop string instead of before it.
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
        """The text that may be shown now, and the stop string that has ended it, if any."""
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
        """What was held back, now that no more text can complete a stop string."""
        text, self._held = self._held, ""
        return text


class _Search:
    """Looks for one string in text that arrives in pieces, in linear time whatever they say.

    D. Knuth, J. Morris, V. Pratt, "Fast Pattern Matching in Strings", 1977.
    """

    __slots__ = ("_borders", "matched", "string")

    def __init__(self, string: str) -> None:
        self.string = string
        self.matched = 0
        """Characters at the string's beginning that the text so far ends with."""
        self._borders = [0]
        """By length less one: of that beginning the longest end that is a beginning, too."""

    def feed(self, text: str) -> int:
        """Where in `text` the first occurrence ends, counted from 1; 0 if there is none."""
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
        """How much is matched when one more character has come."""
        while matched and self.string[matched] != character:
            matched = self._border(matched)
        return matched + (self.string[matched] == character)

    def _border(self, length: int) -> int:
        """Of the beginning of this length; they are found as they are needed."""
        borders = self._borders
        while len(borders) < length:
            borders.append(self._advance(borders[-1], self.string[len(borders)]))
        return borders[length - 1]
