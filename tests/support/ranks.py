"""Several ranks in this process: threads that take turns, joined by gloo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from glmserve.contract.shard import Group, Shard, Stage
from glmserve.ops.collectives import ALONE, Collectives
from glmserve.ops.torch_collectives import TorchCollectives

Result = TypeVar("Result")


def on_ranks(size: int, work: Callable[[Collectives], Result]) -> list[Result]:
    """The results of `work` on every rank of one stage; 1 rank: on this thread."""
    return on_stages(1, size, lambda collectives, _: work(collectives))


def on_stages(stages: int, size: int, work: Callable[[Collectives, Stage], Result]) -> list[Result]:
    """The results of `work` on every rank, stage by stage; 1 rank: on this thread.

    Args:
        size: ranks of a stage.
    """
    if stages * size == 1:
        return [work(ALONE, Stage())]
    everybody, turn = dist.HashStore(), Lock()
    stores = [dist.HashStore() for _ in range(stages)]

    def rank(number: int) -> Result:
        stage, shard = divmod(number, size)
        place = Group(Shard(shard, size), "", Stage(stage, stages))
        groups = _gloo(everybody, number, stages * size), _gloo(stores[stage], shard, size)
        with turn, torch.inference_mode():
            collectives = _TakingTurns(place, *groups, turn)
            result = work(collectives, place.stage)
            collectives.smallest(0)  # a stage that is through stays until the others are
            return result

    with ThreadPoolExecutor(stages * size) as threads:
        return list(threads.map(rank, range(stages * size)))


def _gloo(store: Any, rank: int, size: int) -> Any:
    gloo: Any = dist.ProcessGroupGloo
    options = gloo._Options()
    options._devices = [gloo.create_device(hostname="127.0.0.1")]
    return gloo(store, rank, size, options)


class _TakingTurns(TorchCollectives):
    """Lets other ranks compute while this one waits: kernels share the threads of the process."""

    def __init__(self, place: Group, everybody: Any, stage: Any, turn: Lock) -> None:
        super().__init__(place, everybody, stage, torch.device("cpu"))
        self._turn = turn

    def sum(self, x: Tensor) -> Tensor:
        return self._waiting(lambda: super(_TakingTurns, self).sum(x))

    def ordered_sum(self, x: Tensor) -> Tensor:
        return self._waiting(lambda: super(_TakingTurns, self).ordered_sum(x))

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return self._waiting(lambda: super(_TakingTurns, self).join(x, widths))

    def send(self, x: Tensor) -> None:
        self._waiting(lambda: super(_TakingTurns, self).send(x))

    def receive(self, x: Tensor) -> Tensor:
        return self._waiting(lambda: super(_TakingTurns, self).receive(x))

    def smallest(self, number: int) -> int:
        return self._waiting(lambda: super(_TakingTurns, self).smallest(number))

    def _waiting(self, call: Callable[[], Result]) -> Result:
        self._turn.release()
        try:
            return call()
        finally:
            self._turn.acquire()
