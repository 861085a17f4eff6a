"""Ends a stream of text at the first stop string, without ever showing a part of one."""

from __future__ import annotations

from collections.abc import Sequence

from glmserve.errors import InvalidRequestError
from glmserve.text.partial_match import partial_match_start


class StopChecker:
    """Looks for stop strings in text that arrives in pieces.

    The stop string that is complete first wins, as generation ends with it; of those that are
    complete at the same character the longest, so that nothing of it is shown. The result does
    not depend on how the text is cut into pieces. Held back is exactly the end of the text that
    could still become a stop string, so at most the length of the longest one less one.

    Callers skip this class where there is nothing to look for. With `include` the text shown ends
    behind the stop string instead of before it.
    """

    __slots__ = ("_held", "_include", "_stop_strings", "_stopped")

    def __init__(self, stop_strings: Sequence[str], include: bool = False) -> None:
        if not all(stop_strings):
            raise InvalidRequestError("a stop string must not be empty", param="stop")
        self._stop_strings = tuple(stop_strings)
        self._include = include
        self._held = ""
        self._stopped: str | None = None

    def push(self, text: str) -> tuple[str, str | None]:
        """The text that may be shown now, and the stop string that has ended it, if any."""
        if self._stopped is not None:
            return "", self._stopped
        text = self._held + text
        match = self._first_match(text)
        if match is not None:
            start, self._stopped = match
            self._held = ""
            end = start + len(self._stopped) if self._include else start
            return text[:end], self._stopped
        hold_from = min(
            (partial_match_start(text, stop) for stop in self._stop_strings), default=len(text)
        )
        self._held = text[hold_from:]
        return text[:hold_from], None

    def flush(self) -> str:
        """What was held back, now that no more text can complete a stop string."""
        text, self._held = self._held, ""
        return text

    def _first_match(self, text: str) -> tuple[int, str] | None:
        """Start and string of the match with the earliest end, the longest of several."""
        matches = []
        for stop in self._stop_strings:
            start = text.find(stop)
            if start >= 0:
                matches.append((start + len(stop), start, stop))
        if not matches:
            return None
        _, start, stop = min(matches)
        return start, stop
