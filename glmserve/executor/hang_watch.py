"""Notices that one worker hangs, in a step or while it loads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from glmserve.config import SupervisionConfig
from glmserve.executor.connection import WorkerConnection
from glmserve.executor.watchdog import Watchdog


class HangWatch:
    """Kills a worker that exceeds a time-out.

    Args:
        connection: to the worker.
        supervision: time-outs of a step and of loading without progress.
        kill: ends the worker.
    """

    def __init__(
        self,
        connection: WorkerConnection,
        supervision: SupervisionConfig,
        kill: Callable[[], None],
    ) -> None:
        self.reason = ""
        """Why the worker was killed; empty: it was not."""
        self._connection = connection
        self._kill = kill
        step, load = supervision.step_timeout, supervision.load_timeout
        slow_step = f"its step did not end within --step-timeout {step:g}"
        slow_load = f"it made no progress in loading within --load-timeout {load:g}"
        self._watchdogs = (
            Watchdog(step, self._num_steps_done, partial(self._kill_hung, slow_step)),
            Watchdog(load, self._num_reports, partial(self._kill_hung, slow_load)),
        )

    def stop(self) -> None:
        """Watch no more."""
        for watchdog in self._watchdogs:
            watchdog.stop()

    def _num_steps_done(self) -> int | None:
        return self._connection.num_steps_done if self._connection.is_busy else None

    def _num_reports(self) -> int | None:
        return None if self._connection.ready.done() else self._connection.num_reports

    def _kill_hung(self, reason: str) -> None:
        self.reason = reason
        self._kill()
