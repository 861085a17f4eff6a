"""Watchdogs whose time passes when a test says so: no worker of a busy machine is killed."""

from __future__ import annotations

import pytest

from glmserve.executor.watchdog import _CHECKS_PER_TIMEOUT, Watchdog


class Watchdogs:
    """All watchdogs that are made from now on, with the time of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._due: dict[Watchdog, None] = {}
        """Those that check again, in order."""

        def schedule(watchdog: Watchdog) -> None:
            self._due[watchdog] = None

        def stop(watchdog: Watchdog) -> None:
            self._due.pop(watchdog, None)

        monkeypatch.setattr(Watchdog, "_schedule_check", schedule)
        monkeypatch.setattr(Watchdog, "stop", stop)

    def let_time_out(self) -> None:
        """Let the time-out of each pass. What makes no progress meanwhile is reported."""
        for _ in range(_CHECKS_PER_TIMEOUT + 1):
            for watchdog in list(self._due):
                if self._due.pop(watchdog, watchdog) is None:
                    watchdog._check()
