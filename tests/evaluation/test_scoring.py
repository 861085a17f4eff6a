"""Reading windows with a runner that knows nothing, but says which token it was asked about."""

from __future__ import annotations

import asyncio
from array import array

import pytest

from glmserve.config import LoadProgress, ReportProgress, report_nothing
from glmserve.contract.step import (
    Logprobs,
    RunnerInfo,
    RunnerLimits,
    StepInput,
    StepOutput,
    TokenMasks,
)
from glmserve.errors import DeviceError
from glmserve.evaluation import Window, score


class Echo:
    """An Executor: the log-probability of a token is its own id, and its position the best id."""

    def __init__(self, failure: DeviceError | None = None) -> None:
        self.steps: list[StepInput] = []
        self.closed = False
        self._failure = failure

    async def start(self, progress: ReportProgress) -> RunnerInfo:
        if self._failure:
            raise self._failure
        progress(LoadProgress("weights", 1, 1))
        return RunnerInfo(RunnerLimits(99, 4, 1, 512, 512), "echo", "float32", 0, 0, 0)

    def submit(self, step: StepInput) -> asyncio.Future[StepOutput]:
        self.steps.append(step)
        (sequence,) = step.sequences
        assert sequence.score is not None
        scores = [
            Logprobs(float(target), [sequence.start + i + 1], [0.0])
            for i, target in enumerate(sequence.score.targets)
        ]
        output: asyncio.Future[StepOutput] = asyncio.get_running_loop().create_future()
        output.set_result(StepOutput(step.step_id, [], scores=[scores]))
        return output

    def send_masks(self, masks: TokenMasks) -> None:
        raise AssertionError("nothing is masked")

    async def wait_lost(self) -> None:
        raise AssertionError("the loss is not awaited")

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("length", [2, 3, 4, 5, 9, 64])
async def test_every_token_but_the_first_is_scored_once(length: int) -> None:
    executor = Echo()
    ids = list(range(100, 100 + length))
    reading = await score(executor, [Window(ids, 1)], report_nothing, lambda: None)
    assert [s.logprob for s in reading.scores] == ids[1:]
    assert [s.top_ids for s in reading.scores] == [[i] for i in range(1, length)]
    sequences = [step.sequences[0] for step in executor.steps]
    assert [t for s in sequences for t in s.token_ids] == ids
    assert 4 * len(array("i", sequences[-1].block_table)) >= length
    assert executor.closed


async def test_questions_are_read_and_not_scored() -> None:
    executor, done = Echo(), []
    windows = [Window([1, 2, 3, 4], 2), Window([5, 6, 7], 1)]
    reading = await score(executor, windows, report_nothing, lambda: done.append(1))
    assert [s.logprob for s in reading.scores] == [3, 4, 6, 7]
    assert len(done) == 2
    assert [step.step_id for step in executor.steps] == list(range(len(executor.steps)))


async def test_a_runner_that_cannot_start_is_closed() -> None:
    executor = Echo(DeviceError("no such thing"))
    with pytest.raises(DeviceError):
        await score(executor, [Window([1, 2], 1)], report_nothing, lambda: None)
    assert executor.closed
