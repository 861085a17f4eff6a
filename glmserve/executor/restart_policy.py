"""How often, and after which pause, a dead worker is replaced."""

from __future__ import annotations

WINDOW = 600.0
"""Seconds for which a restart counts."""
_LONGEST_PAUSE = 30.0
"""Seconds."""


class RestartPolicy:
    """Counts restarts. The caller supplies the time.

    Args:
        max_restarts: maximum number of restarts within WINDOW seconds.
    """

    def __init__(self, max_restarts: int) -> None:
        self._max_restarts = max_restarts
        self._times: list[float] = []
        self._useless_in_a_row = 0  # deaths in a row of workers that did nothing useful

    def next_pause(self, now: float, *, was_useful: bool, excused: int) -> float | None:
        """Seconds to wait before the next start, or None if there were too many restarts.

        The pause doubles with each worker in a row that did nothing useful.

        Args:
            now: reading of a monotonic clock, seconds.
            was_useful: whether the dead worker had done more than the test step.
            excused: number of the most recent deaths, including this one, that do not count.
        """
        self._times = [time for time in self._times if now - time < WINDOW]
        self._times.append(now)
        del self._times[max(0, len(self._times) - excused) :]
        if len(self._times) > self._max_restarts:
            return None
        self._useless_in_a_row = 1 if was_useful else self._useless_in_a_row + 1
        return (
            min(2.0 ** (self._useless_in_a_row - 2), _LONGEST_PAUSE)
            if self._useless_in_a_row > 1
            else 0.0
        )
