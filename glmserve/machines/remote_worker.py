"""The leader's end of a worker process on another machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from glmserve.config import ReportProgress, SupervisionConfig
from glmserve.contract.member import Kill, ToWorker
from glmserve.executor.connection import WorkerConnection
from glmserve.executor.exit_status import describe_exit
from glmserve.executor.hang_watch import HangWatch
from glmserve.machines.link import Link


class RemoteWorker:
    """A worker that a member has started. See Worker.

    Args:
        number: by which the member knows it.
        link: to the member.
        host: name of the member's machine.
        progress: see WorkerConnection.
        supervision: see WorkerProcess.
    """

    pid = None

    def __init__(
        self,
        number: int,
        link: Link,
        host: str,
        progress: ReportProgress,
        supervision: SupervisionConfig,
    ) -> None:
        self.host = host
        self.lost_machine = ""
        self.exit_code: int | None = None
        self.connection = WorkerConnection(progress)
        self._number = number
        self._link = link
        self._problem = ""
        self._watch = HangWatch(self.connection, supervision, self.kill)
        relay = cast(asyncio.BaseTransport, _Relay(number, link, self.kill))
        self.connection.connection_made(relay)

    @property
    def was_hung(self) -> bool:
        return bool(self._watch.reason)

    def kill(self) -> None:
        if self.exit_code is None:
            self._link.send(Kill(self._number))

    async def wait_lost(self) -> str:
        await self.connection.lost.wait()
        if self.lost_machine:
            return f"was on {self.lost_machine}"
        if self.was_hung:
            return f"was killed: {self._watch.reason}"
        if self._problem:
            return f"could not be started: {self._problem}"
        return describe_exit(cast(int, self.exit_code))

    async def close(self) -> None:
        self.connection.ready.cancel()
        self.kill()
        await self.connection.lost.wait()

    def ended(self, exit_code: int, problem: str) -> None:
        """The member says that the process is gone.

        Args:
            problem: why it could not be started; empty: it was.
        """
        self.exit_code, self._problem = exit_code, problem
        self._lost()

    def machine_lost(self, machine: str) -> None:
        """The member is gone, and its workers with it.

        Args:
            machine: see Worker.lost_machine.
        """
        self.lost_machine = machine
        self._lost()

    def _lost(self) -> None:
        self._watch.stop()
        self.connection.connection_lost(None)


class _Relay:
    """Sends the bytes of one worker's connection to the member: what WorkerConnection needs of a
    transport."""

    def __init__(self, number: int, link: Link, end: Callable[[], None]) -> None:
        self._number = number
        self._link = link
        self._end = end

    def write(self, data: bytes) -> None:
        self._link.send(ToWorker(self._number, data))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self._end()
