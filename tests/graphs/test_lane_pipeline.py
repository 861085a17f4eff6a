"""Parts of a model on several devices: at the same time, in order, and with the same texts."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from glmserve.contract.step import (
    PendingOutput,
    Runner,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
)
from glmserve.graphs.lane_call import LaneCall, PartResult
from glmserve.graphs.lane_pipeline import LanePipeline
from glmserve.graphs.session import Array
from support.compiled import compile_model, load_compiled
from support.golden import read_greedy

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


def test_steps_in_flight_choose_the_tokens_of_the_original(
    golden_models: Path, tmp_path: Path
) -> None:
    """Two requests, each in steps of its own: one step is in each part all the time."""
    folder = golden_models / "glm4_base"
    compiled = compile_model(
        folder, tmp_path / "c", "onnxruntime", "lanes", dtype="float32", split=2
    )
    runner = load_compiled(compiled, device="onnxruntime:CPU,CPU")
    assert runner.info.limits.steps_in_flight == 2
    prompts, want = (texts[:2] for texts in read_greedy(folder))
    tokens = [list(prompt) for prompt in prompts]
    flying = deque(begin(runner, lane, tokens[lane], 0) for lane in range(2))
    for turn in range(2 * len(want[0])):
        lane = turn % 2
        (token,) = flying.popleft()().token_ids
        tokens[lane].append(token)
        flying.append(begin(runner, lane, tokens[lane], len(tokens[lane]) - 1))
    assert [t[len(p) :] for t, p in zip(tokens, prompts, strict=True)] == want
    runner.close()


def begin(runner: Runner, lane: int, tokens: list[int], start: int) -> PendingOutput:
    """Begin a step that computes the tokens from `start` on, in a lane."""
    table = np.array([lane], np.int32).tobytes()
    sequence = ScheduledSequence(lane, tokens[start:], start, table, SamplingInput())
    output = runner.execute(StepInput(1, [sequence]))
    assert not isinstance(output, StepOutput)
    return output
