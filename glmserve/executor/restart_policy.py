"""How often, and how soon, a worker that has died is replaced."""

from __future__ import annotations

WINDOW = 600.0
"""Seconds for which a restart counts."""
_LONGEST_PAUSE = 30.0
"""Seconds."""


class RestartPolicy:
    """Counts restarts. Has no clock of its own.

    Args:
        most: restarts within WINDOW.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: list[float] = []
        self._in_a_row = 0  # deaths without anything useful between

    def next_pause(self, now: float, *, was_useful: bool, excused: int) -> float | None:
        """Seconds to wait before the next start; None: that would be one too many.

        Args:
            now: any clock's reading, seconds.
            was_useful: whether the worker that died had got somewhere; else it pays to wait.
            excused: of the last deaths, this one included, those whose reason is known and gone.
        """
        self._times = [time for time in self._times if now - time < WINDOW]
        self._times.append(now)
        del self._times[max(0, len(self._times) - excused) :]
        if len(self._times) > self._most:
            return None
        self._in_a_row = 1 if was_useful else self._in_a_row + 1
        return min(2.0 ** (self._in_a_row - 2), _LONGEST_PAUSE) if self._in_a_row > 1 else 0.0
