"""A member: it runs a leader's workers on this machine, and never loads a model itself."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from pathlib import Path

from glmserve import __version__
from glmserve.config import RunnerConfig
from glmserve.contract.member import MemberInfo
from glmserve.errors import StartupError
from glmserve.machines.handshake import RefusedError, introduce
from glmserve.machines.layout import Layout
from glmserve.machines.likeness import fingerprint_of
from glmserve.machines.link import Link, LinkError
from glmserve.machines.session import Session
from glmserve.model_config import read_model_config

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 2.0
"""Seconds between two attempts to reach the leader."""
_DIAL_TIMEOUT = 10.0
"""Seconds for one attempt, with the handshake."""


def describe(layout: Layout, config: RunnerConfig) -> MemberInfo:
    """What this process has to offer.

    Args:
        layout: of the group.
        config: made of this machine's options.

    Raises:
        CheckpointError: the checkpoint cannot be read here.
    """
    read_model_config(Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint)
    return MemberInfo(
        version=__version__,
        number=layout.number,
        count=layout.count,
        instance=secrets.token_hex(8),
        host=socket.gethostname(),
        places=layout.places,
        config=config,
        checkpoint=fingerprint_of(config),
    )


class Member:
    """Belongs to a group until it is cancelled.

    Args:
        layout: of the group; this process does not lead it.
        info: what this member has.
        key: the group's.
        on_loopback: whether all members are on this machine.
    """

    def __init__(self, layout: Layout, info: MemberInfo, key: bytes, *, on_loopback: bool) -> None:
        self._layout = layout
        self._info = info
        self._key = key
        self._on_loopback = on_loopback
        self._leader = f"the leader at {layout.host}:{layout.port}"
        self._said = ""
        self._has_ended = False

    async def run(self) -> None:
        """Dial the leader, and run workers for it, again and again. Return when the leader's server
        ends, unless the layout says that the member stays.

        Raises:
            StartupError: the leader refuses this member for good.
        """
        pause = _FIRST_PAUSE
        while not (self._has_ended and not self._layout.stays):
            try:
                link, timeout = await self._dial()
            except (LinkError, OSError, TimeoutError) as error:
                self._say(f"{self._leader} is not reached: it {_how(error)}; trying again")
            except RefusedError as refusal:
                reason = f"{self._leader} refuses this {self._layout.noun}: {refusal.reason}"
                if refusal.is_final:
                    raise StartupError(reason) from None
                self._say(f"{reason}; trying again")
            else:
                self._say(f"{self._leader} is there")
                pause = _FIRST_PAUSE
                session = Session(link, timeout, on_loopback=self._on_loopback)
                reason = await session.run()
                self._has_ended = session.leader_has_ended
                self._say(f"{self._leader} is lost: it {reason}; its workers here are gone")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _dial(self) -> tuple[Link, float]:
        """A link to the leader, and the time-out of silence."""
        async with asyncio.timeout(_DIAL_TIMEOUT):
            link = Link(*await asyncio.open_connection(self._layout.host, self._layout.port))
            try:
                welcome = await introduce(link, self._key, self._info)
            except BaseException:
                link.close()
                raise
        return link, welcome.timeout

    def _say(self, what: str) -> None:
        """Log it, unless it was the last thing said."""
        if what != self._said:
            logger.warning("%s", what)
            self._said = what


def _how(error: Exception) -> str:
    """How an attempt to reach the leader failed, as a predicate."""
    if isinstance(error, TimeoutError):
        return f"does not answer within {_DIAL_TIMEOUT:g} s"
    if isinstance(error, OSError):
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        return f"cannot be connected to ({reason.lower()})"
    return str(error)
