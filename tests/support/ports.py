"""Ports for servers that a test starts, perhaps again and again."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from random import SystemRandom

_FIRST, _END = 20_000, 32_768
"""Below the ports that Linux gives to outgoing connections, which would take one meanwhile."""


def free_ports(count: int) -> list[int]:
    """TCP ports of this machine that nothing listens on, all different."""
    ports: list[int] = []
    with ExitStack() as stack:
        for port in SystemRandom().sample(range(_FIRST, _END), 100):
            with suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise OSError(f"no {count} free ports from {_FIRST} to {_END}")


def free_port() -> int:
    """One of `free_ports`."""
    return free_ports(1)[0]
