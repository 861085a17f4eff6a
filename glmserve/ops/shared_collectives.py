"""Collectives by memory that the ranks of one machine share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from glmserve.contract.shard import Group
from glmserve.ops.collectives import joined
from glmserve.ops.linear.segments import pairwise_sum
from glmserve_cpu_kernels.exchange import Channel, Exchange
from glmserve_cpu_kernels.library import Library


class SharedMemory:
    """By memory that the ranks of one machine share. A rank that waits for one that is gone waits
    until the executor ends it.

    Args:
        place: this rank's.
        library: our own CPU kernels.
    """

    def __init__(self, place: Group, library: Library) -> None:
        self.shard, stage = place.shard, place.stage
        path = Path(place.rendezvous)
        self._everybody = Exchange(library, path, place.rank, place.size)
        self._stage = self._everybody
        if 1 < self.shard.size < place.size:
            own = path.with_name(f"{path.name}.stage{stage.rank}")
            self._stage = Exchange(library, own, self.shard.rank, self.shard.size)
        links = [
            path.with_name(f"{path.name}.{self.shard.rank}.to{target}")
            for target in (stage.rank, stage.rank + 1)
        ]
        self._before = None if stage.is_first else Channel(library, links[0])
        self._next = None if stage.is_last else Channel(library, links[1])

    def sum(self, x: Tensor) -> Tensor:
        return pairwise_sum(self._gather(x))

    def ordered_sum(self, x: Tensor) -> Tensor:
        return self.sum(x)

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return joined(x, widths, self._gather)

    def send(self, x: Tensor) -> None:
        assert self._next is not None, "there is no next stage"
        self._next.send(x)

    def receive(self, x: Tensor) -> Tensor:
        assert self._before is not None, "there is no stage before"
        return self._before.receive(x)

    def smallest(self, number: int) -> int:
        return int(min(self._everybody.gather(torch.tensor(number))))

    def _gather(self, x: Tensor) -> list[Tensor]:
        """x of each rank of the stage, in order."""
        return [x] if self.shard.size == 1 else self._stage.gather(x)
