"""How much a step in the background may hold, so that a request that arrives waits little for it.

Its first token takes the time of its prompt. So a step in the background should take no longer than
a part of a usual prompt, or little longer than the shortest step there is.
"""

from __future__ import annotations

from glmserve.scheduler.recent_median import RecentMedian
from glmserve.scheduler.step_pace import StepPace

_PROMPT_TOKENS = 48
"""A step may take as long as so many prompt tokens,"""
_LEAST_STEPS = 1.3
"""or so many times the shortest step of decodes, whichever is more."""
_FIRST_TOKENS = 32
"""Prompt tokens of a step as long as their cost is not known; StepPace learns from so many."""
_LEAST_TOKENS = 16
"""Prompt tokens that a step takes in any case."""
_KEPT = 5
"""Steps of decodes after which the number of requests is set anew, by the median of their times."""
_NEAR = 0.9
"""Part of the time below which one more request is tried."""


class BackgroundPace:
    """Learns how many requests, and how many of their prompt tokens, a step may hold.

    Args:
        pace: knows what a prompt token takes.
        most: requests at once.
    """

    def __init__(self, pace: StepPace, most: int) -> None:
        self.places = 1
        """Requests that may run at once. One at first, so that the shortest step gets known."""
        self._pace = pace
        self._most = most
        self._shortest: float | None = None  # step of decodes, seconds
        self._decodes = RecentMedian(_KEPT)

    @property
    def prompt_room(self) -> int:
        """Prompt tokens that a step may have beside its decodes."""
        token = self._pace.token_seconds
        if not token:
            return _FIRST_TOKENS
        return max(_LEAST_TOKENS, int((self._limit - self._decodes.value) / token))

    def record_decodes(self, rows: int, seconds: float, *, in_background: bool) -> None:
        """Learn from a step of decodes alone.

        Args:
            rows: sequences in it.
            in_background: all of them are.
        """
        self._shortest = min(self._shortest or seconds, seconds)
        if not in_background:
            return
        self._decodes.add(seconds)
        if not self._decodes.is_full:
            return
        usual = self._decodes.value
        if usual > self._limit:
            self._set_places(rows * 3 // 4)
        elif usual < _NEAR * self._limit and rows >= self.places:
            self._set_places(rows + max(1, rows // 8))

    @property
    def _limit(self) -> float:
        """Seconds that a step should take at most."""
        tokens = _PROMPT_TOKENS * self._pace.token_seconds
        return max(tokens, _LEAST_STEPS * (self._shortest or 0.0))

    def _set_places(self, places: int) -> None:
        self.places = min(max(1, places), self._most)
        self._decodes.clear()
