"""One worker process of this machine, from its start to its end."""

from __future__ import annotations

import asyncio

from glmserve.config import ReportProgress, RunnerConfig, SupervisionConfig
from glmserve.contract.wire import encode_config_frame
from glmserve.executor.child_process import ChildProcess
from glmserve.executor.connection import WorkerConnection
from glmserve.executor.exit_status import describe_exit
from glmserve.executor.hang_watch import HangWatch
from glmserve.executor.worker_start import StartedWorker

_STOP_TIMEOUT = 5.0
"""Seconds for a worker to end by itself after its connection is closed."""


class WorkerProcess:
    """A process that runs `glmserve.worker.main` at the other end of `connection`. See Worker.

    Args:
        supervision: time-outs of a step and of loading without progress. A process that exceeds one
            is killed.
    """

    lost_machine = ""
    host = ""

    def __init__(
        self,
        process: ChildProcess,
        connection: WorkerConnection,
        supervision: SupervisionConfig,
    ) -> None:
        self.connection = connection
        self._process = process
        self._watch = HangWatch(connection, supervision, self.kill)

    @classmethod
    async def spawn(
        cls,
        config: RunnerConfig,
        progress: ReportProgress,
        supervision: SupervisionConfig,
        started: StartedWorker | None = None,
    ) -> WorkerProcess:
        """Let a process build the runner. `connection.ready` resolves when it is built.

        Args:
            started: the process; None: a new one.

        Raises:
            OSError: the process cannot be started.
        """
        started = started or StartedWorker()
        connection = await started.connect(lambda: WorkerConnection(progress))
        connection.send(encode_config_frame(config))
        return cls(started.process, connection, supervision)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    @property
    def was_hung(self) -> bool:
        return bool(self._watch.reason)

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def wait_lost(self) -> str:
        await self.connection.lost.wait()
        await self._end()
        if self.was_hung:
            return f"was killed: {self._watch.reason}"
        assert self._process.returncode is not None
        return describe_exit(self._process.returncode)

    async def close(self) -> None:
        if self.connection.ready.cancel() and self._process.returncode is None:
            self._process.kill()  # while it loads it would not notice the closed connection
        self.connection.close()
        await self._end()

    async def _end(self) -> None:
        self._watch.stop()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
