"""Parts of a model on several devices: at the same time, in order, and with the same texts."""

from __future__ import annotations

from threading import Barrier
from typing import Any

import numpy as np
import pytest

from glmserve.graphs.lane_call import LaneCall, PartResult
from glmserve.graphs.lane_pipeline import LanePipeline
from glmserve.graphs.session import Array

NOTHING = np.zeros((0, 0), np.float32)
TIMEOUT = 10


def call(number: int) -> LaneCall:
    return LaneCall("base", number, NOTHING, NOTHING, [0], 1)


class Recording:
    """A part that adds its number and the call's to the stream."""

    def __init__(self, number: int, meeting: Barrier | None = None) -> None:
        self.number = number
        self.meeting = meeting
        self.seen: list[int] = []

    def run(self, call: LaneCall, stream: Array | None) -> PartResult:
        # Only the first call of the first part and the last one of the last part are alone.
        if self.meeting is not None and call.first != (0 if self.number == 0 else 3):
            self.meeting.wait(TIMEOUT)
        self.seen.append(call.first)
        base = np.zeros(0) if stream is None else stream
        return PartResult(np.append(base, self.number * 10 + call.first), NOTHING, NOTHING)


def test_parts_work_at_the_same_time_and_in_order() -> None:
    """Each part but the first to begin waits until the other one computes, too."""
    meeting = Barrier(2)
    parts = [Recording(0, meeting), Recording(1, meeting)]
    pipeline = LanePipeline(parts, at_once=True)
    results = [pipeline.begin(call(number)) for number in range(4)]
    for number, result in enumerate(results):
        stream: Any = result.result(TIMEOUT).stream
        assert stream.tolist() == [number, 10 + number]
    pipeline.close()
    assert parts[0].seen == parts[1].seen == [0, 1, 2, 3]


def test_an_error_reaches_the_caller() -> None:
    class Broken(Recording):
        def run(self, call: LaneCall, stream: Array | None) -> PartResult:
            raise RuntimeError("device lost")

    pipeline = LanePipeline([Recording(0), Broken(1), Recording(2)], at_once=True)
    with pytest.raises(RuntimeError, match="device lost"):
        pipeline.begin(call(0)).result(TIMEOUT)
    pipeline.close()
    with pytest.raises(RuntimeError, match="device lost"):
        LanePipeline([Broken(0)], at_once=False).begin(call(0))
