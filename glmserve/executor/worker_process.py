"""One worker process, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.executor.connection import WorkerConnection
from glmserve.executor.exit_status import describe_exit
from glmserve.executor.watchdog import Watchdog
from glmserve.wire import encode_frame

_PACKAGE_ROOT = Path(__file__).parents[2]
_STOP_TIMEOUT = 5.0
"""Seconds a worker gets to end by itself once its connection is closed."""


class WorkerProcess:
    """A process that runs `glmserve.worker` at the other end of `connection`.

    Args:
        step_timeout: seconds after which a step that has not ended is taken for one that never
            will, and the process is killed; 0: never.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        connection: WorkerConnection,
        step_timeout: float,
    ) -> None:
        self.connection = connection
        self._process = process
        self._step_timeout = step_timeout
        self._is_hung = False
        self._watchdog = Watchdog(step_timeout, self._num_steps_done, self._kill_hung)

    @classmethod
    async def spawn(
        cls, config: RunnerConfig, progress: ReportProgress, step_timeout: float
    ) -> WorkerProcess:
        """Start a process that builds the runner; `connection.ready` tells when it has."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await _start(theirs)
            _, connection = await loop.create_connection(
                lambda: WorkerConnection(progress), sock=ours
            )
        except BaseException:
            ours.close()  # which ends the process, if there is one
            raise
        connection.send(encode_frame(config))
        return cls(process, connection, step_timeout)

    async def wait_lost(self) -> str:
        """Wait until it is gone; what became of it, as in "the worker ..."."""
        await self.connection.lost.wait()
        await self._end()
        if self._is_hung:
            return f"was killed: its step did not end within --step-timeout {self._step_timeout:g}"
        assert self._process.returncode is not None
        return describe_exit(self._process.returncode)

    async def close(self) -> None:
        """End it. Safe to call more than once."""
        self.connection.close()
        await self._end()

    async def _end(self) -> None:
        self._watchdog.stop()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _num_steps_done(self) -> int | None:
        return self.connection.num_steps_done if self.connection.is_busy else None

    def _kill_hung(self) -> None:
        self._is_hung = True
        self._process.kill()


async def _start(connection: socket.socket) -> asyncio.subprocess.Process:
    """Start a worker that inherits its end of the connection."""
    descriptor = connection.fileno()
    # -P and the explicit path keep the current folder off the worker's module search path: a file
    # named torch.py lying there must not be run.
    code = (
        f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
        f"from glmserve.worker import main; main({descriptor}, {os.getpid()})"
    )
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-c", code),
        pass_fds=[descriptor],
        stdin=asyncio.subprocess.DEVNULL,
    )
