"""How long work on a GPU takes: replayed from a graph, so that no launch waits for the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Protocol

import torch

Launch = Callable[[], object]
"""Queues work on the GPU."""

GRAPH_SECONDS = 2e-3
"""A graph should take so long that the two events around it do not matter."""
MOST_LAUNCHES = 128
"""In one graph."""
REPEATS = (5, 50)
"""Replays of which the median counts: at least, at most."""
SHORTEST_LAUNCH = 1e-6
"""Seconds; no launch in a graph takes less."""


class Timer(Protocol):
    """A GPU, as far as measuring needs one."""

    def record(self, launches: Sequence[Launch]) -> Launch:
        """Work that does all these again, in order."""
        ...

    def seconds(self, work: Launch) -> float:
        """How long the GPU is busy with it."""
        ...


class CudaTimer:
    """Graphs and events of torch.cuda."""

    def record(self, launches: Sequence[Launch]) -> Launch:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for launch in launches:
                launch()  # compiles, and sets up libraries
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for launch in launches:
                launch()
        return graph.replay

    def seconds(self, work: Launch) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


def seconds_per_launch(launches: Sequence[Launch], timer: Timer, budget: float = 0.2) -> float:
    """Median time of one launch, when all of them follow one another again and again.

    Args:
        launches: the same work on different memory, see `rotation`.
        budget: seconds of the GPU to spend on it, about.
    """
    once = timer.record(launches)
    once()
    pass_seconds = max(timer.seconds(once), len(launches) * SHORTEST_LAUNCH)
    passes = min(math.ceil(GRAPH_SECONDS / pass_seconds), max(1, MOST_LAUNCHES // len(launches)))
    replay = once if passes == 1 else timer.record([*launches] * passes)
    replay()
    least, most = REPEATS
    repeats = min(most, max(least, int(budget / (passes * pass_seconds))))
    return median(timer.seconds(replay) for _ in range(repeats)) / (passes * len(launches))


def rotation(touched: int, held: int, l2_bytes: int, free_bytes: int) -> int:
    """How many sets of arguments to rotate, so that the L2 holds nothing of use: 1 to 64.

    Together they exceed it four times, or are as many as fit in half the free memory.

    Args:
        touched: bytes that one launch reads or writes.
        held: bytes that one set of arguments takes.
    """
    wanted = min(64, max(4, math.ceil(4 * l2_bytes / touched)))
    return max(1, min(wanted, free_bytes // 2 // held))
