"""Sockets at which other machines connect: members to their leader, ranks to the first rank."""

from __future__ import annotations

import socket


def listen(port: int, *, on_loopback: bool) -> socket.socket:
    """Listen on a port.

    Args:
        port: 0 is any free one.
        on_loopback: whether only this machine may connect.

    Raises:
        OSError: it is not free.
    """
    if on_loopback:
        return socket.create_server(("127.0.0.1", port))
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def rendezvous(host: str, port: int) -> str:
    """See `Group.rendezvous`."""
    return f"tcp://{host}:{port}"
