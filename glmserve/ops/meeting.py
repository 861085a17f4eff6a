"""Where the ranks of a group find each other."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from glmserve.contract.shard import Group

FOREVER = timedelta(days=365)
"""A time-out: the executor watches the ranks, and ends all if one hangs."""

_DISTRIBUTED: Any = dist
"""Its stubs lack the stores, and the options of gloo."""


def meet(group: Group) -> Any:
    """What the ranks tell each other at first: in a file, or kept by the first rank for all.

    Raises:
        RuntimeError: the first rank is gone.
    """
    if group.meets_at is None:
        return _DISTRIBUTED.FileStore(group.rendezvous, group.size)
    host, port = group.meets_at
    is_first = group.listener is not None
    return _DISTRIBUTED.TCPStore(
        "localhost" if is_first else host,
        port,
        group.size,
        is_master=is_first,
        master_listen_fd=group.listener,
        wait_for_workers=False,
        timeout=FOREVER,
    )


def gloo_device(group: Group) -> Any:
    """The network interface of this rank for gloo."""
    gloo = _DISTRIBUTED.ProcessGroupGloo
    if group.meets_at is None:
        return gloo.create_device(hostname="127.0.0.1")
    name = os.environ.get("GLOO_SOCKET_IFNAME")
    if name:
        return gloo.create_device(interface=name)
    return gloo.create_device(hostname=_address_towards(*group.meets_at))


def _address_towards(host: str, port: int) -> str:
    """This machine's address on the way to another one; nothing is sent."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])
