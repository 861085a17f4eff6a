"""Memory of packed weights lies on huge pages, wherever the allocator puts it."""

from __future__ import annotations

import random
from itertools import pairwise

import torch

from glmserve_cpu_kernels.weights_memory import WeightsMemory

HUGE_PAGE = 2**21


class Asked:
    """Notes the memory that huge pages were asked for."""

    def __init__(self) -> None:
        self.ranges: list[range] = []

    def __call__(self, memory: torch.Tensor) -> None:
        self.ranges.append(addresses(memory))


def addresses(memory: torch.Tensor) -> range:
    return range(memory.data_ptr(), memory.data_ptr() + memory.nbytes)


def test_weights_of_any_size() -> None:
    """All are apart, aligned, and within memory that huge pages were asked for."""
    asked, rng = Asked(), random.Random(0)
    memory = WeightsMemory(asked)
    sizes = [1, 64, 65, 2**23 - 1, 2**23, 2**23 + 5, *(rng.randrange(2**24) for _ in range(40))]
    taken = [memory.take(size) for size in sizes]
    places = sorted((addresses(one) for one in taken), key=lambda place: place.start)
    assert [one.nbytes for one in taken] == sizes
    assert all(one.stop <= other.start for one, other in pairwise(places))
    assert all(place.start % 64 == 0 for place in places)
    assert all(place.start % HUGE_PAGE == 0 for place in asked.ranges)
    for place in places:
        assert any(
            place.start >= found.start and place.stop <= found.stop for found in asked.ranges
        )


def test_small_weights_share_memory_and_large_ones_do_not() -> None:
    asked = Asked()
    memory = WeightsMemory(asked)
    for _ in range(10):
        memory.take(2**20)
    assert len(asked.ranges) == 1
    memory.take(2**24)
    memory.take(2**20)
    assert len(asked.ranges) == 2
