"""Lets a runner read windows, and collects what it thought of each token."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from glmserve.config import ReportProgress
from glmserve.contract.step import Logprobs, RunnerInfo, ScheduledSequence, ScoreInput, StepInput
from glmserve.evaluation.texts import Window
from glmserve.executor import Executor

TOP_LOGPROBS = 64
"""Most likely tokens that are reported of each place."""
_CHUNKS = 4
"""In which a window is computed, so that most of what a token sees has been through the cache."""


@dataclass(frozen=True)
class Reading:
    """What a model thought of a text."""

    info: RunnerInfo
    scores: list[Logprobs]
    """Of all tokens to predict, with the TOP_LOGPROBS most likely ones in each place."""

    @property
    def perplexity(self) -> float:
        mean = sum(score.logprob for score in self.scores) / len(self.scores)
        return math.exp(-mean) if mean > -700 else math.inf


async def score(
    executor: Executor,
    windows: Sequence[Window],
    loading: ReportProgress,
    window_done: Callable[[], object],
) -> Reading:
    """Start the runner, read `windows`, and stop it.

    Raises:
        StartupError: it cannot be started.
        EngineDeadError: it has died.
    """
    async with aclosing(_Reader(executor)) as reader:
        info = await executor.start(loading)
        scores: list[Logprobs] = []
        for window in windows:
            found = await reader.read(window.ids, info.limits.block_size)
            scores += found[window.first - 1 :]
            window_done()
    return Reading(info, scores)


class _Reader:
    """One sequence after the other, in the first blocks of the cache."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._steps = 0

    async def read(self, ids: list[int], block_size: int) -> list[Logprobs]:
        """Of all tokens but the first."""
        table = array("i", range(-(-len(ids) // block_size))).tobytes()
        chunk = math.ceil(len(ids) / _CHUNKS)
        found: list[Logprobs] = []
        for start in range(0, len(ids), chunk):
            part = ids[start : start + chunk]
            wanted = ScoreInput(ids[start + 1 : start + 1 + len(part)], TOP_LOGPROBS)
            sequence = ScheduledSequence(0, part, start, table, None, wanted)
            output = await self._executor.submit(StepInput(self._steps, [sequence]))
            self._steps += 1
            found += output.scores[0]
        return found

    async def aclose(self) -> None:
        await self._executor.close()
