"""One worker process, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from functools import partial
from pathlib import Path

from glmserve.config import ReportProgress, RunnerConfig, SupervisionConfig
from glmserve.contract.wire import encode_config_frame
from glmserve.executor.connection import WorkerConnection
from glmserve.executor.exit_status import describe_exit
from glmserve.executor.watchdog import Watchdog

_PACKAGE_ROOT = Path(__file__).parents[2]
_STOP_TIMEOUT = 5.0
"""Seconds for a worker to end by itself after its connection is closed."""


class WorkerProcess:
    """A process that runs `glmserve.worker.main` at the other end of `connection`.

    Args:
        supervision: time-outs of a step and of loading without progress. A process that exceeds one
            is killed.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        connection: WorkerConnection,
        supervision: SupervisionConfig,
    ) -> None:
        self.connection = connection
        self._process = process
        self._hung = ""
        step, load = supervision.step_timeout, supervision.load_timeout
        slow_step = f"its step did not end within --step-timeout {step:g}"
        slow_load = f"it made no progress in loading within --load-timeout {load:g}"
        self._watchdogs = (
            Watchdog(step, self._num_steps_done, partial(self._kill_hung, slow_step)),
            Watchdog(load, self._num_reports, partial(self._kill_hung, slow_load)),
        )

    @classmethod
    async def spawn(
        cls, config: RunnerConfig, progress: ReportProgress, supervision: SupervisionConfig
    ) -> WorkerProcess:
        """Start a process that builds the runner. `connection.ready` resolves when it is built.

        Raises:
            OSError: the process cannot be started.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        process = None
        try:
            with theirs:
                process = await _start(theirs)
            _, connection = await loop.create_connection(
                lambda: WorkerConnection(progress), sock=ours
            )
        except BaseException:
            ours.close()
            if process is not None:
                process.kill()
                await process.wait()
            raise
        connection.send(encode_config_frame(config))
        return cls(process, connection, supervision)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """As in `subprocess`; None: the process has not ended."""
        return self._process.returncode

    @property
    def was_hung(self) -> bool:
        """Whether it was killed because of a time-out."""
        return bool(self._hung)

    def kill(self) -> None:
        """End the process at once."""
        if self._process.returncode is None:
            self._process.kill()

    async def wait_lost(self) -> str:
        """Wait until the process is gone. Returns how it ended, as a predicate for "the worker"."""
        await self.connection.lost.wait()
        await self._end()
        if self._hung:
            return f"was killed: {self._hung}"
        assert self._process.returncode is not None
        return describe_exit(self._process.returncode)

    async def close(self) -> None:
        """End the process. Safe to call more than once."""
        if self.connection.ready.cancel() and self._process.returncode is None:
            self._process.kill()  # while it loads it would not notice the closed connection
        self.connection.close()
        await self._end()

    async def _end(self) -> None:
        for watchdog in self._watchdogs:
            watchdog.stop()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _num_steps_done(self) -> int | None:
        return self.connection.num_steps_done if self.connection.is_busy else None

    def _num_reports(self) -> int | None:
        return None if self.connection.ready.done() else self.connection.num_reports

    def _kill_hung(self, reason: str) -> None:
        self._hung = reason
        self.kill()


async def _start(connection: socket.socket) -> asyncio.subprocess.Process:
    """Start a worker that inherits its end of the connection."""
    descriptor = connection.fileno()
    # -P and the explicit path keep the current folder off the worker's module search path, so that
    # a file named torch.py in it is not run.
    code = (
        f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
        f"from glmserve.worker.main import main; main({descriptor}, {os.getpid()})"
    )
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-c", code),
        pass_fds=[descriptor],
        stdin=asyncio.subprocess.DEVNULL,
    )
