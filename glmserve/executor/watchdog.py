"""Notices that a running worker makes no progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_CHECKS_PER_TIMEOUT = 10
"""Checks of a worker within its time-out. Checks are counted instead of reading a clock: a clock
goes on while this process is stopped, and the worker must not be killed for that."""


class Watchdog:
    """Checks the progress at intervals, from its construction on.

    Args:
        timeout: seconds without progress before `on_timeout` is called; 0: no checks.
        progress: returns a number that changes with progress, or None while there is nothing to do.
        on_timeout: called once, on the event loop.
    """

    def __init__(
        self, timeout: float, progress: Callable[[], int | None], on_timeout: Callable[[], None]
    ) -> None:
        self._interval = timeout / _CHECKS_PER_TIMEOUT
        self._progress = progress
        self._on_timeout = on_timeout
        self._last_progress: int | None = None
        self._checks_without_progress = 0
        self._timer: asyncio.TimerHandle | None = None
        if timeout:
            self._schedule_check()

    def stop(self) -> None:
        """Check no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule_check(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._check)

    def _check(self) -> None:
        progress = self._progress()
        has_moved = progress is None or progress != self._last_progress
        self._last_progress = progress
        self._checks_without_progress = 0 if has_moved else self._checks_without_progress + 1
        if self._checks_without_progress >= _CHECKS_PER_TIMEOUT:
            self._on_timeout()
        else:
            self._schedule_check()
