"""Threads that share the work of a call."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glmserve_cpu_kernels import elementwise
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.linear import PackedLinear, pack_floats


@pytest.fixture
def weight(any_library: Library) -> PackedLinear:
    """Forty panels, so as many tasks."""
    return pack_floats(any_library, torch.randn(40 * 32, 64, generator=torch.Generator()))


def compute(library: Library, weight: PackedLinear, x: Tensor) -> list[Tensor]:
    """Calls of many tasks right after some of few."""
    products = weight(x)
    return [products, elementwise.silu_and_mul(library, products)]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(any_library: Library, weight: PackedLinear, threads: int) -> None:
    x = torch.randn(50, 64)
    any_library.set_threads(1)
    want = compute(any_library, weight, x)
    any_library.set_threads(threads)
    for _ in range(50):
        assert all(map(torch.equal, compute(any_library, weight, x), want))


def test_calls_from_many_threads(any_library: Library, weight: PackedLinear) -> None:
    """One has the pool, the others work alone; none gets another's result."""
    inputs = [torch.randn(rows, 64) for rows in (1, 3, 12, 30, 64, 100)]
    wanted = [compute(any_library, weight, x) for x in inputs]
    any_library.set_threads(3)

    def call(i: int) -> bool:
        got = (compute(any_library, weight, inputs[i]) for _ in range(20))
        return all(all(map(torch.equal, some, wanted[i])) for some in got)

    with ThreadPoolExecutor(len(inputs)) as pool:
        assert all(pool.map(call, range(len(inputs))))


def test_the_number_of_threads_changes_between_calls_of_others(
    any_library: Library, weight: PackedLinear
) -> None:
    x = torch.randn(30, 64)
    want = compute(any_library, weight, x)

    def call(_: int) -> bool:
        got = (compute(any_library, weight, x) for _ in range(40))
        return all(all(map(torch.equal, some, want)) for some in got)

    with ThreadPoolExecutor(2) as pool:
        results = pool.map(call, range(2))
        for threads in (1, 4, 2, 1, 3) * 4:
            any_library.set_threads(threads)
        assert all(results)


@pytest.mark.parametrize("is_bound", [False, True])
def test_threads_keep_their_cpus(
    any_library: Library, weight: PackedLinear, is_bound: bool
) -> None:
    """A thread is kept from one CPU while it wakes up. Then it may run where it could before."""
    any_library.set_threads(1)
    others = _threads()
    any_library.set_threads(3)
    threads = _threads() - others
    assert len(threads) == 2
    allowed = os.sched_getaffinity(0)
    if is_bound:
        allowed = {min(allowed)}
        for thread in threads:
            os.sched_setaffinity(thread, allowed)
    x = torch.randn(50, 64)
    for _ in range(20):
        time.sleep(0.003)  # a long sleep for the threads
        compute(any_library, weight, x)
    deadline = time.monotonic() + 30
    while any(os.sched_getaffinity(thread) != allowed for thread in threads):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}
