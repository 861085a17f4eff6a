"""A member's end of a worker: the process, and the relay of its bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from glmserve.contract.member import Ended, FromWorker
from glmserve.executor.child_process import ChildProcess
from glmserve.executor.worker_start import StartedWorker
from glmserve.machines.link import Link

_STOP_TIMEOUT = 5.0
"""Seconds for a worker to end by itself after it has closed its connection."""


class MemberWorker:
    """A worker process that the leader has asked for. It reports its end to the leader.

    Args:
        number: by which the leader knows it.
        process: of the worker.
        relay: this end of the worker's connection.
        link: to the leader.
    """

    def __init__(self, number: int, process: ChildProcess, relay: _Relay, link: Link) -> None:
        self._number = number
        self._process = process
        self._relay = relay
        self._link = link
        self._end = asyncio.create_task(self._wait())

    @classmethod
    async def spawn(cls, number: int, link: Link, meeting: socket.socket | None) -> MemberWorker:
        """Start the process. The leader sends its config as the first bytes.

        Args:
            meeting: see `StartedWorker`.

        Raises:
            OSError: it cannot be started.
        """
        started = StartedWorker(meeting)
        relay = await started.connect(lambda: _Relay(number, link))
        return cls(number, started.process, relay, link)

    def send(self, data: bytes) -> None:
        """Send bytes to the worker."""
        self._relay.send(data)

    def kill(self) -> None:
        """End the process at once."""
        if self._process.returncode is None:
            self._process.kill()

    async def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        self.kill()
        await self._end

    def on_end(self, call: Callable[[], object]) -> None:
        """Call a function when the process is gone."""
        self._end.add_done_callback(lambda _: call())

    async def _wait(self) -> None:
        await self._relay.lost.wait()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT)
        except TimeoutError:
            self._process.kill()
        self._link.send(Ended(self._number, await self._process.wait()))


class _Relay(asyncio.Protocol):
    """Sends what the worker writes to the leader."""

    def __init__(self, number: int, link: Link) -> None:
        self.lost = asyncio.Event()
        self._number = number
        self._link = link
        self._transport: asyncio.Transport | None = None

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._link.send(FromWorker(self._number, bytes(data)))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()
