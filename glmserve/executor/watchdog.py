"""Notices that a worker is there but gets nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_TICKS = 10
"""Looks at a worker within its time. They are counted and no clock is read, because a clock goes on
while this very process is stopped, and the worker is not to blame for that."""


class Watchdog:
    """Looks now and then whether there was progress; begins at once.

    Args:
        timeout: seconds without progress that are too many; 0: it sleeps.
        progress: a number that grows; None while there is nothing to do.
        bark: called once, when that time is over.
    """

    def __init__(
        self, timeout: float, progress: Callable[[], int | None], bark: Callable[[], None]
    ) -> None:
        self._interval = timeout / _TICKS
        self._progress = progress
        self._bark = bark
        self._seen: int | None = None
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        if timeout:
            self._wait()

    def stop(self) -> None:
        """It will not bark any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def _look(self) -> None:
        seen = self._progress()
        has_moved = seen is None or seen != self._seen
        self._seen = seen
        self._ticks = 0 if has_moved else self._ticks + 1
        if self._ticks >= _TICKS:
            self._bark()
        else:
            self._wait()
