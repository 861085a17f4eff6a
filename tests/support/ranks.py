"""Several ranks in this process: threads that take turns, joined by gloo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from glmserve.contract.shard import Shard
from glmserve.ops.collectives import ALONE, Collectives, TorchCollectives

Result = TypeVar("Result")


def on_ranks(size: int, work: Callable[[Collectives], Result]) -> list[Result]:
    """The results of `work` on every rank; 1 rank: on this thread."""
    if size == 1:
        return [work(ALONE)]
    store, turn = dist.HashStore(), Lock()

    def rank(number: int) -> Result:
        gloo: Any = dist.ProcessGroupGloo
        options = gloo._Options()
        options._devices = [gloo.create_device(hostname="127.0.0.1")]
        group = gloo(store, number, size, options)
        with turn, torch.inference_mode():
            return work(_TakingTurns(group, Shard(number, size), torch.device("cpu"), turn))

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(rank, range(size)))


class _TakingTurns(TorchCollectives):
    """Lets other ranks compute while this one waits: kernels share the threads of the process."""

    def __init__(self, group: Any, shard: Shard, device: torch.device, turn: Lock) -> None:
        super().__init__(group, shard, device)
        self._turn = turn

    def sum(self, x: Tensor) -> Tensor:
        return self._waiting(lambda: super(_TakingTurns, self).sum(x))

    def ordered_sum(self, x: Tensor) -> Tensor:
        return self._waiting(lambda: super(_TakingTurns, self).ordered_sum(x))

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return self._waiting(lambda: super(_TakingTurns, self).join(x, widths))

    def smallest(self, number: int) -> int:
        return self._waiting(lambda: super(_TakingTurns, self).smallest(number))

    def _waiting(self, call: Callable[[], Result]) -> Result:
        self._turn.release()
        try:
            return call()
        finally:
            self._turn.acquire()
