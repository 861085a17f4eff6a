"""Lets a runner predict the tokens of windows, and collects their log-probabilities."""

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
"""Number of most likely tokens reported for each position."""
_CHUNKS = 4
"""Chunks in which a window is computed, so that most K and V are read from the KV cache."""


@dataclass(frozen=True)
class Reading:
    """A model's log-probabilities of a text."""

    info: RunnerInfo
    scores: list[Logprobs]
    """Of each predicted token, with the TOP_LOGPROBS most likely tokens of its position."""

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-probability; infinite if that overflows."""
        mean = sum(score.logprob for score in self.scores) / len(self.scores)
        return math.exp(-mean) if mean > -700 else math.inf


async def score(
    executor: Executor,
    windows: Sequence[Window],
    loading: ReportProgress,
    window_done: Callable[[], object],
) -> Reading:
    """Start the runner, let it read `windows`, and stop it.

    Args:
        loading: called while the runner loads.
        window_done: called after each window.

    Raises:
        StartupError: the runner cannot be started.
        EngineDeadError: the runner died.
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
    """Computes one sequence after the other, in the first blocks of the KV cache."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._num_steps = 0

    async def read(self, ids: list[int], block_size: int) -> list[Logprobs]:
        """Log-probabilities of all tokens except the first, in order."""
        table = array("i", range(-(-len(ids) // block_size))).tobytes()
        chunk = math.ceil(len(ids) / _CHUNKS)
        found: list[Logprobs] = []
        for start in range(0, len(ids), chunk):
            part = ids[start : start + chunk]
            wanted = ScoreInput(ids[start + 1 : start + 1 + len(part)], TOP_LOGPROBS)
            sequence = ScheduledSequence(0, part, start, table, None, wanted)
            output = await self._executor.submit(StepInput(self._num_steps, [sequence]))
            self._num_steps += 1
            found += output.scores[0]
        return found

    async def aclose(self) -> None:
        await self._executor.close()
