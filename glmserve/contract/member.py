"""Messages between the leader of a group and its members, the processes that run ranks elsewhere.

They are framed like those of `contract/wire.py`. The member dials. Then:

    member  Hello       a random number
    leader  Challenge   another one, and the proof that the leader has the group's key
    member  Join        the same proof, and what the member has
    leader  Welcome, or Refused

After that the leader sends LeaderMessages, and the member MemberMessages, in any order.
"""

from __future__ import annotations

import msgspec

from glmserve.config import RunnerConfig
from glmserve.contract.shard import Shard

PROTOCOL = "glmserve-group-1"
MAX_GREETING = 2**16
"""Bytes of a frame before both ends have proved themselves."""
MAX_FRAME = 2**30
"""Bytes of any other."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """The member's first message."""

    protocol: str
    nonce: bytes


class Challenge(msgspec.Struct, frozen=True, array_like=True, tag="challenge"):
    """The leader's answer."""

    nonce: bytes
    proof: bytes


class Join(msgspec.Struct, frozen=True, array_like=True, tag="join"):
    """The member's proof, and a MemberInfo as JSON that the proof covers."""

    proof: bytes
    info: bytes


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag="welcome"):
    """The member belongs to the group."""

    timeout: float
    """Seconds of silence after which an end takes the other for lost."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """It does not."""

    reason: str
    is_final: bool
    """Whether the same member will be refused again."""


class MemberInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a member has."""

    version: str
    """Of glmserve."""
    number: int
    """Of the member in the group; the leader is 0."""
    count: int
    """Of the group's members, with the leader."""
    instance: str
    """Random; tells a member that dials again from another with the same number."""
    host: str
    """Name of its machine."""
    places: tuple[Shard, ...]
    """Of its ranks, see Machine.places."""
    config: RunnerConfig
    """Made of its own options."""
    checkpoint: str
    """Fingerprint of the checkpoint's files."""


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="ping"):
    """The leader is there; the member answers with Pong."""


class OpenMeeting(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """Listen where the ranks can meet; the member answers with Meeting."""


class Spawn(msgspec.Struct, frozen=True, array_like=True, tag="spawn"):
    """Start a worker."""

    worker: int
    """A new number."""
    has_meeting: bool
    """Whether the worker gets the listening socket."""


class ToWorker(msgspec.Struct, frozen=True, array_like=True, tag="to"):
    """Bytes for a worker's connection."""

    worker: int
    data: bytes


class Kill(msgspec.Struct, frozen=True, array_like=True, tag="kill"):
    """Kill a worker, if it has not ended."""

    worker: int


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag="bye"):
    """The leader's server ends as it should."""


class Pong(msgspec.Struct, frozen=True, array_like=True, tag="pong"):
    """The member is there."""


class Meeting(msgspec.Struct, frozen=True, array_like=True, tag="meeting"):
    """The member listens for ranks."""

    port: int


class FromWorker(msgspec.Struct, frozen=True, array_like=True, tag="from"):
    """Bytes that a worker has sent."""

    worker: int
    data: bytes


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """A worker is gone."""

    worker: int
    exit_code: int
    """As in `subprocess`."""
    problem: str = ""
    """Why it could not be started; empty: it was."""


Greeting = Hello | Challenge | Join | Welcome | Refused
LeaderMessage = Ping | OpenMeeting | Spawn | ToWorker | Kill | Goodbye
MemberMessage = Pong | Meeting | FromWorker | Ended
AnyMessage = Greeting | LeaderMessage | MemberMessage

decode_message = msgspec.msgpack.Decoder(AnyMessage).decode
