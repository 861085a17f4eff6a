"""Which processes hold the ranks of a group, and which of them this one is."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from glmserve.contract.shard import Shard


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A group of several members. Member 0 leads: it has the server, and its own ranks if any."""

    count: int
    """Number of members."""
    number: int
    """This one's."""
    host: str
    """Of the leader, as all members reach it."""
    port: int
    """On which the leader listens for members."""
    places: tuple[Shard, ...]
    """Of this member's ranks, see Machine.places."""
    noun: str = "machine"
    """What a member is, for people."""
    stays: bool = True
    """Whether a member goes on when the leader ends as it should, and waits for the next one."""

    @property
    def is_leader(self) -> bool:
        """Whether this process leads."""
        return self.number == 0

    def name_of(self, number: int, host: str = "") -> str:
        """A member's name for people, such as "machine 1 (host-b)"."""
        return f"{self.noun} {number}" + (f" ({host})" if host else "")


def is_loopback(host: str) -> bool:
    """Whether a host's name means this machine alone. A name that is unknown does not."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)
