"""The leader's end of a member."""

from __future__ import annotations

import asyncio
import itertools

from glmserve.config import ReportProgress, RunnerConfig, SupervisionConfig
from glmserve.contract.member import (
    AnyMessage,
    Ended,
    FromWorker,
    Goodbye,
    Meeting,
    MemberInfo,
    OpenMeeting,
    Ping,
    Pong,
    Spawn,
)
from glmserve.contract.wire import encode_config_frame
from glmserve.executor.watchdog import Watchdog
from glmserve.machines.likeness import with_local_options
from glmserve.machines.link import Link, LinkError
from glmserve.machines.meeting import rendezvous
from glmserve.machines.remote_worker import RemoteWorker

_PINGS_PER_TIMEOUT = 5


class RemoteMachine:
    """A member that has joined. See Machine.

    Args:
        info: what it has.
        name: for people, such as "machine 1 (host-b)".
        link: to it.
        timeout: seconds of silence after which it is taken for lost.
    """

    def __init__(self, info: MemberInfo, name: str, link: Link, timeout: float) -> None:
        self.info = info
        self.name = name
        self.places = info.places
        self._link = link
        self._timeout = timeout
        self._silence = f"has not answered for {timeout:g} s"
        self._is_silent = False
        self._how_lost = ""
        self._workers: dict[int, RemoteWorker] = {}
        self._numbers = itertools.count()
        self._meeting: asyncio.Future[int] | None = None

    async def attend(self) -> str:
        """Take what the member sends until it is lost.

        Returns:
            How it was lost, as a predicate for its name.
        """
        watchdog = Watchdog(self._timeout, lambda: self._link.num_received, self._silent)
        pinging = asyncio.create_task(self._ping())
        reason = "sent what cannot be understood"
        try:
            while True:
                self._take(await self._link.receive())
        except LinkError as error:
            reason = self._silence if self._is_silent else str(error)
            return reason
        except asyncio.CancelledError:
            reason = "was let go with the server"
            raise
        finally:
            pinging.cancel()
            watchdog.stop()
            self._link.abort()
            self._lost(reason)

    async def open_meeting(self) -> str:
        """See Machine. If the member is lost it leads nowhere, and so are its workers."""
        self._meeting = asyncio.get_running_loop().create_future()
        if self._how_lost:
            self._meeting.set_result(0)
        self._link.send(OpenMeeting())
        return rendezvous(self._link.peer, await self._meeting)

    async def spawn(
        self, config: RunnerConfig, progress: ReportProgress, supervision: SupervisionConfig
    ) -> RemoteWorker:
        """See Machine. A worker of a member that is lost is lost, too."""
        number = next(self._numbers)
        worker = RemoteWorker(number, self._link, self.info.host, progress, supervision)
        if self._how_lost:
            worker.machine_lost(self._how_lost)
            return worker
        self._workers[number] = worker
        has_meeting = config.group is not None and config.group.rank == 0
        self._link.send(Spawn(number, has_meeting))
        own = with_local_options(config, self.info.config)
        worker.connection.send(encode_config_frame(own))
        return worker

    def close_meeting(self) -> None:
        """See Machine: the member does so itself."""

    def say_goodbye(self) -> None:
        """The server ends."""
        self._link.send(Goodbye())

    def cut_off(self) -> None:
        """Take it for lost."""
        self._link.abort()

    def _take(self, message: AnyMessage) -> None:
        match message:
            case Pong():
                pass
            case FromWorker(number, data):
                if number in self._workers:
                    self._workers[number].connection.data_received(data)
            case Ended(number, exit_code, problem):
                if number in self._workers:
                    self._workers.pop(number).ended(exit_code, problem)
            case Meeting(port):
                if self._meeting is not None and not self._meeting.done():
                    self._meeting.set_result(port)
            case _:
                raise LinkError("sent what does not belong here")

    async def _ping(self) -> None:
        while True:
            self._link.send(Ping())
            await asyncio.sleep(self._timeout / _PINGS_PER_TIMEOUT)

    def _silent(self) -> None:
        self._is_silent = True
        self._link.abort()

    def _lost(self, reason: str) -> None:
        self._how_lost = f"{self.name}, which {reason}"
        for worker in self._workers.values():
            worker.machine_lost(self._how_lost)
        self._workers.clear()
        if self._meeting is not None and not self._meeting.done():
            self._meeting.set_result(0)
