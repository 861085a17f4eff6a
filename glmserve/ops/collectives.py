"""Sums and joins over the ranks of a group. Each rank calls the same ones in the same order."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.contract.shard import WHOLE, Group, Shard
from glmserve.errors import RankLostError
from glmserve.ops.linear.segments import pairwise_sum
from glmserve_cpu_kernels.exchange import Exchange
from glmserve_cpu_kernels.library import Library

_FOREVER = timedelta(days=365)
"""The executor watches the ranks, and ends all if one hangs."""

_DISTRIBUTED: Any = dist
"""Its stubs lack FileStore, and the options of gloo."""

Result = TypeVar("Result")
JoinedGroup = Any
"""A ProcessGroup, or one of its backends: both have the methods that are called here."""


class Collectives(Protocol):
    """What the ranks do together. A result is the same on every rank, bit for bit.

    Raises:
        RankLostError: from every method; another rank is gone.
    """

    shard: Shard
    """This rank's."""

    def sum(self, x: Tensor) -> Tensor:
        """The sum of all ranks' x, in its shape and dtype; x may be overwritten."""
        ...

    def ordered_sum(self, x: Tensor) -> Tensor:
        """`sum` in an order that is a binary tree over the ranks: see `pairwise_sum`."""
        ...

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        """All ranks' x side by side.

        Args:
            x: [n, widths[rank]]
            widths: columns of each rank.

        Returns:
            [n, sum(widths)]
        """
        ...

    def smallest(self, number: int) -> int:
        """The smallest of all ranks' numbers. The host waits for it."""
        ...


class Alone:
    """One rank: nothing to do."""

    shard = WHOLE

    def sum(self, x: Tensor) -> Tensor:
        return x

    def ordered_sum(self, x: Tensor) -> Tensor:
        return x

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return x

    def smallest(self, number: int) -> int:
        return number


ALONE = Alone()


class TorchCollectives:
    """By torch.distributed.

    Args:
        group: the ranks, joined.
        shard: this rank's.
        device: of the tensors.
    """

    def __init__(self, group: JoinedGroup, shard: Shard, device: torch.device) -> None:
        self.shard = shard
        self._group = group
        self._device = device

    def sum(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        _ask_others(lambda: self._group.allreduce([x]).wait())
        return x

    def ordered_sum(self, x: Tensor) -> Tensor:
        return pairwise_sum(self._gather(x))

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return _joined(x, widths, self._gather)

    def smallest(self, number: int) -> int:
        shared = torch.tensor([number], device=self._device)
        _ask_others(lambda: self._group.allreduce([shared], dist.ReduceOp.MIN).wait())
        return int(shared)

    def _gather(self, x: Tensor) -> list[Tensor]:
        """x of each rank, in order."""
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.shard.size)]
        _ask_others(lambda: self._group.allgather([parts], [x]).wait())
        return parts


class OrderedCollectives(TorchCollectives):
    """By torch.distributed, with the sums of SharedMemory: a group of CPUs computes the same bits
    on several machines as on one, whatever else is in a batch."""

    def sum(self, x: Tensor) -> Tensor:
        return self.ordered_sum(x)


class SharedMemory:
    """By memory that the ranks of one machine share. A rank that waits for one that is gone waits
    until the executor ends it.

    Args:
        exchange: this rank's end.
        shard: this rank's.
    """

    def __init__(self, exchange: Exchange, shard: Shard) -> None:
        self.shard = shard
        self._exchange = exchange

    def sum(self, x: Tensor) -> Tensor:
        return pairwise_sum(self._exchange.gather(x))

    def ordered_sum(self, x: Tensor) -> Tensor:
        return self.sum(x)

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return _joined(x, widths, self._exchange.gather)

    def smallest(self, number: int) -> int:
        return int(min(self._exchange.gather(torch.tensor(number))))


def join_by_shared_memory(group: Group, library: Library) -> Collectives:
    """Join the group's ranks on the CPUs of this machine.

    Args:
        group: this rank's place.
        library: our own CPU kernels.
    """
    shard = group.shard
    exchange = Exchange(library, Path(group.rendezvous), shard.rank, shard.size)
    return SharedMemory(exchange, shard)


def join_by_gloo(group: Group) -> Collectives:
    """Join the group's ranks on CPUs by gloo.

    It connects them by TCP: on the loopback interface if they are on one machine, else on
    $GLOO_SOCKET_IFNAME, or on the interface by which the first rank is reached.

    Args:
        group: this rank's place.

    Raises:
        RankLostError: another rank is gone.
    """

    def join() -> JoinedGroup:
        gloo = _DISTRIBUTED.ProcessGroupGloo
        options = gloo._Options()
        options._devices = [_gloo_device(group)]
        options._timeout = _FOREVER
        return gloo(_store(group), group.rank, group.size, options)

    kind = TorchCollectives if group.meets_at is None else OrderedCollectives
    return kind(_ask_others(join), group.shard, torch.device("cpu"))


def join_by(backend: str, group: Group | None, device: torch.device) -> Collectives:
    """Join the group's ranks by a backend of torch.distributed: nccl, hccl.

    Args:
        group: this rank's place; None: it is alone.
        device: of this rank; the current one.

    Raises:
        RankLostError: another rank is gone.
    """
    if group is None:
        return ALONE

    def join() -> JoinedGroup:
        dist.init_process_group(
            backend,
            store=_store(group),
            rank=group.rank,
            world_size=group.size,
            timeout=_FOREVER,
        )
        return dist.group.WORLD

    return TorchCollectives(_ask_others(join), group.shard, device)


def _store(group: Group) -> Any:
    """What the ranks know of each other: a file, or kept by the first rank for all."""
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
        timeout=_FOREVER,
    )


def _gloo_device(group: Group) -> Any:
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


def _joined(
    x: Tensor, widths: Sequence[int], gather: Callable[[Tensor], Sequence[Tensor]]
) -> Tensor:
    """See Collectives.join."""
    padded = F.pad(x, (0, max(widths) - x.shape[1]))
    parts = zip(gather(padded), widths, strict=True)
    return torch.cat([part[:, :width] for part, width in parts], dim=1)


def _ask_others(call: Callable[[], Result]) -> Result:
    """The result of a call that waits for other ranks."""
    try:
        return call()
    except RuntimeError as error:  # what all backends raise
        raise RankLostError(f"another rank is gone: {error}") from error
