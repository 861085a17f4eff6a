"""Sums and joins over the ranks of a group. Each rank calls the same ones in the same order."""

from __future__ import annotations

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
    """Join the group's ranks on the CPUs of this machine.

    gloo connects them by TCP on the loopback interface only.

    Args:
        group: this rank's place.

    Raises:
        RankLostError: another rank is gone.
    """
    size = group.shard.size

    def join() -> JoinedGroup:
        gloo = _DISTRIBUTED.ProcessGroupGloo
        options = gloo._Options()
        options._devices = [gloo.create_device(hostname="127.0.0.1")]
        options._timeout = _FOREVER
        return gloo(_DISTRIBUTED.FileStore(group.rendezvous, size), group.shard.rank, size, options)

    return TorchCollectives(_ask_others(join), group.shard, torch.device("cpu"))


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
    size = group.shard.size
    store = _DISTRIBUTED.FileStore(group.rendezvous, size)

    def join() -> JoinedGroup:
        dist.init_process_group(
            backend, store=store, rank=group.shard.rank, world_size=size, timeout=_FOREVER
        )
        return dist.group.WORLD

    return TorchCollectives(_ask_others(join), group.shard, device)


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
