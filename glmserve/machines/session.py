"""What a member does for one leader, from the handshake until one of them is gone."""

from __future__ import annotations

import asyncio
import socket

from glmserve.contract.member import (
    AnyMessage,
    Ended,
    Goodbye,
    Kill,
    Meeting,
    OpenMeeting,
    Ping,
    Pong,
    Spawn,
    ToWorker,
)
from glmserve.executor.watchdog import Watchdog
from glmserve.machines.link import Link, LinkError
from glmserve.machines.meeting import listen
from glmserve.machines.member_worker import MemberWorker


class Session:
    """Runs the workers that the leader asks for.

    Args:
        link: to the leader.
        timeout: seconds of silence after which the leader is taken for lost.
        on_loopback: whether all members are on this machine.
    """

    def __init__(self, link: Link, timeout: float, *, on_loopback: bool) -> None:
        self.leader_has_ended = False
        """Whether the leader's server ended as it should."""
        self._link = link
        self._timeout = timeout
        self._on_loopback = on_loopback
        self._is_silent = False
        self._meeting: socket.socket | None = None
        self._workers: dict[int, MemberWorker] = {}

    async def run(self) -> str:
        """Do what the leader says until it is lost. Then kill its workers.

        Returns:
            How it was lost, as a predicate for "it".
        """
        watchdog = Watchdog(self._timeout, lambda: self._link.num_received, self._silent)
        try:
            while True:
                await self._obey(await self._link.receive())
        except LinkError as error:
            return f"was silent for {self._timeout:g} s" if self._is_silent else str(error)
        finally:
            watchdog.stop()
            self._link.abort()
            self._close_meeting()
            await asyncio.gather(*(worker.end() for worker in self._workers.values()))

    async def _obey(self, message: AnyMessage) -> None:
        match message:
            case Ping():
                self._link.send(Pong())
            case OpenMeeting():
                self._open_meeting()
            case Spawn(number, has_meeting):
                await self._spawn(number, self._meeting if has_meeting else None)
            case ToWorker(number, data):
                if number in self._workers:
                    self._workers[number].send(data)
            case Kill(number):
                if number in self._workers:
                    self._workers[number].kill()
            case Goodbye():
                self.leader_has_ended = True
            case _:
                raise LinkError("sent what does not belong here")

    def _open_meeting(self) -> None:
        self._close_meeting()
        try:
            self._meeting = listen(0, on_loopback=self._on_loopback)
        except OSError as error:
            raise LinkError(f"wants a port that is not there ({error})") from None
        self._link.send(Meeting(self._meeting.getsockname()[1]))

    async def _spawn(self, number: int, meeting: socket.socket | None) -> None:
        try:
            worker = await MemberWorker.spawn(number, self._link, meeting)
        except OSError as error:
            self._link.send(Ended(number, 1, error.strerror or str(error)))
            return
        self._workers[number] = worker
        worker.on_end(lambda: self._workers.pop(number, None))
        self._close_meeting()

    def _close_meeting(self) -> None:
        """A worker that has the socket keeps it."""
        if self._meeting is not None:
            self._meeting.close()
            self._meeting = None

    def _silent(self) -> None:
        self._is_silent = True
        self._link.abort()
