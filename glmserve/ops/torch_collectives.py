"""Collectives by torch.distributed: gloo on CPUs, the vendors' libraries on their devices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from glmserve.contract.shard import Group
from glmserve.errors import RankLostError
from glmserve.ops.collectives import ALONE, Collectives, joined
from glmserve.ops.linear.segments import pairwise_sum
from glmserve.ops.meeting import FOREVER, gloo_device, meet

_UNDER_WAY = 4
"""Hand-overs that a stage has sent and that the next may not have received yet."""

_DISTRIBUTED: Any = dist
"""Its stubs lack stores, and the options of gloo."""

Result = TypeVar("Result")
JoinedGroup = Any
"""A ProcessGroup, or one of its backends: both have the methods that are called here."""


class TorchCollectives:
    """By torch.distributed.

    Args:
        place: this rank's.
        everybody: all ranks, joined.
        stage: the ranks of this one's stage, joined; not used if it is one.
        device: of the tensors.
    """

    def __init__(
        self, place: Group, everybody: JoinedGroup, stage: JoinedGroup, device: torch.device
    ) -> None:
        self.shard = place.shard
        self._place = place
        self._everybody = everybody
        self._stage = stage
        self._device = device
        self._sending: deque[tuple[Any, Tensor]] = deque()

    def sum(self, x: Tensor) -> Tensor:
        if self.shard.size == 1:
            return x
        x = x.contiguous()
        _ask_others(lambda: self._stage.allreduce([x]).wait())
        return x

    def ordered_sum(self, x: Tensor) -> Tensor:
        return pairwise_sum(self._gather(x))

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return joined(x, widths, self._gather)

    def send(self, x: Tensor) -> None:
        x = x.contiguous()
        target = self._place.rank + self.shard.size
        self._sending.append((_ask_others(lambda: self._everybody.send([x], target, 0)), x))
        if len(self._sending) > _UNDER_WAY:
            work, _ = self._sending.popleft()
            _ask_others(work.wait)

    def receive(self, x: Tensor) -> Tensor:
        source = self._place.rank - self.shard.size
        _ask_others(lambda: self._everybody.recv([x], source, 0).wait())
        return x

    def smallest(self, number: int) -> int:
        shared = torch.tensor([number], device=self._device)
        _ask_others(lambda: self._everybody.allreduce([shared], dist.ReduceOp.MIN).wait())
        return int(shared)

    def _gather(self, x: Tensor) -> list[Tensor]:
        """x of each rank of the stage, in order."""
        if self.shard.size == 1:
            return [x]
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.shard.size)]
        _ask_others(lambda: self._stage.allgather([parts], [x]).wait())
        return parts


class OrderedCollectives(TorchCollectives):
    """By torch.distributed, with the sums of SharedMemory: a group of CPUs computes the same bits
    on several machines as on one, whatever else is in a batch."""

    def sum(self, x: Tensor) -> Tensor:
        return self.ordered_sum(x)


def join_by_gloo(group: Group) -> Collectives:
    """Join the group's ranks on CPUs by gloo.

    It connects them by TCP: on the loopback interface if they are on one machine, else on
    $GLOO_SOCKET_IFNAME, or on the interface by which the first rank is reached.

    Args:
        group: this rank's place.

    Raises:
        RankLostError: another rank is gone.
    """
    store, name = _ask_others(lambda: meet(group)), f"stage{group.stage.rank}"
    everybody = stage = _gloo(group, store, "all", group.rank, group.size)
    if 1 < group.shard.size < group.size:
        stage = _gloo(group, store, name, group.shard.rank, group.shard.size)
    kind = TorchCollectives if group.meets_at is None else OrderedCollectives
    return kind(group, everybody, stage, torch.device("cpu"))


def _gloo(group: Group, store: Any, name: str, rank: int, size: int) -> JoinedGroup:
    """Join some ranks of the group under a name."""

    def join() -> JoinedGroup:
        gloo = _DISTRIBUTED.ProcessGroupGloo
        options = gloo._Options()
        options._devices = [gloo_device(group)]
        options._timeout = FOREVER
        return gloo(_DISTRIBUTED.PrefixStore(name, store), rank, size, options)

    return _ask_others(join)


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
    size, width = group.size, group.shard.size

    def join() -> JoinedGroup:
        dist.init_process_group(
            backend, store=meet(group), rank=group.rank, world_size=size, timeout=FOREVER
        )
        if width in (1, size):
            return dist.group.WORLD
        # Every rank takes part in making every group.
        stages = [list(range(first, first + width)) for first in range(0, size, width)]
        return [dist.new_group(ranks, timeout=FOREVER) for ranks in stages][group.stage.rank]

    stage = _ask_others(join)
    return TorchCollectives(group, dist.group.WORLD, stage, device)


def _ask_others(call: Callable[[], Result]) -> Result:
    """The result of a call that waits for other ranks."""
    try:
        return call()
    except RuntimeError as error:  # what all backends raise
        raise RankLostError(f"another rank is gone: {error}") from error
