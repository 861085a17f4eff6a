"""The benchmarks' own arithmetic, without a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("triton", reason="the GPU's benchmarks need triton, which Linux only has")

from gpu_timing import Launch


class FakeTimer:
    """A GPU on which a launch takes as long as it says, in seconds, and a graph a bit more."""

    OVERHEAD = 3e-6

    def __init__(self) -> None:
        self.graphs: list[int] = []
        """Launches of each recorded graph."""

    def record(self, launches: Sequence[Launch]) -> Launch:
        self.graphs.append(len(launches))
        return lambda: sum(float(str(launch() or 1e-5)) for launch in launches)

    def seconds(self, work: Launch) -> float:
        return self.OVERHEAD + float(str(work()))


@pytest.fixture
def timer() -> FakeTimer:
    return FakeTimer()
