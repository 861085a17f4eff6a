"""The leader's machines: it lets members join, and knows which of them are there."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Sequence

from glmserve.config import RunnerConfig
from glmserve.contract.member import MemberInfo, Welcome
from glmserve.executor.machine import Machine
from glmserve.machines.handshake import RefusedError, admit
from glmserve.machines.layout import Layout
from glmserve.machines.leader_machine import LeaderMachine
from glmserve.machines.likeness import differences
from glmserve.machines.link import Link, LinkError
from glmserve.machines.remote_machine import RemoteMachine

logger = logging.getLogger(__name__)

_HANDSHAKE_TIMEOUT = 10.0
"""Seconds for a connection to prove itself."""
_MAX_STRANGERS = 64
"""Connections that may be proving themselves at once; further ones are closed."""


class Leader:
    """See Machines.

    Args:
        layout: of the group; this process leads it.
        listener: listens for members; it is closed with this object.
        config: the workers'.
        checkpoint: fingerprint of the checkpoint's files.
        key: the group's.
        timeout: seconds of silence after which a member is taken for lost.
        on_loopback: whether all members are on this machine.
    """

    def __init__(
        self,
        layout: Layout,
        listener: socket.socket,
        config: RunnerConfig,
        checkpoint: str,
        key: bytes,
        timeout: float,
        *,
        on_loopback: bool,
    ) -> None:
        self._layout = layout
        self._listener = listener
        self._config = config
        self._checkpoint = checkpoint
        self._key = key
        self._timeout = timeout
        self._on_loopback = on_loopback
        self._own = LeaderMachine(layout.places, layout.host, on_loopback=on_loopback)
        self._members: dict[int, RemoteMachine] = {}
        self._lost: dict[int, str] = {}  # what became of members that were there
        self._changed = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()
        self._num_strangers = 0
        self._server: asyncio.Server | None = None

    @property
    def missing(self) -> str:
        """See Machines."""
        for number in range(1, self._layout.count):
            if number not in self._members:
                never = f"{self._layout.name_of(number)} has not connected yet"
                return self._lost.get(number, never)
        return ""

    async def start(self) -> None:
        """See Machines."""
        self._server = await asyncio.start_server(self._connected, sock=self._listener)

    async def gather(self) -> Sequence[Machine]:
        """See Machines."""
        async with self._changed:
            if missing := self.missing:
                logger.warning("waiting: %s", missing)
            await self._changed.wait_for(lambda: not self.missing)
            others = [self._members[number] for number in sorted(self._members)]
        machines: list[Machine] = [self._own, *others]
        return [machine for machine in machines if machine.places]

    async def close(self) -> None:
        """See Machines."""
        if self._server is not None:
            self._server.close()
        self._listener.close()
        for member in self._members.values():
            member.say_goodbye()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whatever a stranger sends, this ends quietly."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        link = Link(reader, writer)
        try:
            await self._serve(link)
        except LinkError as error:  # of strangers there may be many
            logger.debug("a connection to the group's port from %s %s", link.peer, error)
        except RefusedError as refusal:
            logger.warning("a member at %s was refused: %s", link.peer, refusal.reason)
        except TimeoutError:
            logger.debug("a connection to the group's port from %s is silent", link.peer)
        except asyncio.CancelledError:
            pass  # the server ends
        finally:
            link.close()

    async def _serve(self, link: Link) -> None:
        info = await self._let_in(link)
        number = info.number
        if earlier := self._members.get(number):
            earlier.cut_off()  # the same member has dialled again before its silence was noticed
        member = RemoteMachine(info, self._layout.name_of(number, info.host), link, self._timeout)
        self._members[number] = member
        if number in self._lost:
            logger.warning("%s is back", member.name)
        await self._tell()
        try:
            reason = await member.attend()
            logger.warning("%s %s", member.name, reason)
        finally:
            if self._members.get(number) is member:
                del self._members[number]
                since = time.strftime("%Y-%m-%d %H:%M:%S %z")
                self._lost[number] = f"{member.name} is not connected since {since}"

    async def _let_in(self, link: Link) -> MemberInfo:
        if self._num_strangers >= _MAX_STRANGERS:
            raise LinkError("came while too many others were proving themselves")
        self._num_strangers += 1
        try:
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT):
                return await admit(link, self._key, Welcome(self._timeout), self._judge)
        finally:
            self._num_strangers -= 1

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _judge(self, info: MemberInfo) -> None:
        """Check that a member has a free place in the group, and the same model and options.

        Raises:
            RefusedError: it has not.
        """
        layout, name = self._layout, self._layout.name_of(info.number, info.host)
        if info.count != layout.count or not 0 < info.number < layout.count:
            raise RefusedError(
                f"it is {layout.noun} {info.number} of {info.count}, and the leader's group has "
                f"{layout.count}, of which the leader is {layout.noun} 0",
                is_final=True,
            )
        if problems := differences(self._config, info.config):
            raise RefusedError(f"{name} has other options: {'; '.join(problems)}", is_final=True)
        if info.checkpoint != self._checkpoint:
            raise RefusedError(
                f"{name} has another model: the files of {info.config.checkpoint} there are not "
                f"those of {self._config.checkpoint} here",
                is_final=True,
            )
        present = self._members.get(info.number)
        if present is not None and present.info.instance != info.instance:
            raise RefusedError(f"{present.name} is already connected", is_final=False)
