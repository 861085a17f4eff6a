"""Brings a runner up, and another one whenever it is lost."""

from __future__ import annotations

from glmserve.config import LoadProgress, ReportProgress, SchedulerConfig
from glmserve.contract.step import INVALID_TOKEN_ID, RunnerInfo, RunnerLimits
from glmserve.errors import EngineDeadError, StartupError, WorkerLostError
from glmserve.executor import Executor
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler


class RunnerSupervisor:
    """A runner is up when a real token has come out of it.

    Args:
        config: the operator's scheduling choices, under which that token is made.
    """

    def __init__(self, executor: Executor, config: SchedulerConfig) -> None:
        self.progress = LoadProgress()
        """How far the runner has come that is being built."""
        self.loss = ""
        """What became of the last runner that was lost, as in "the worker ..."."""
        self._executor = executor
        self._config = config

    async def build(self, progress: ReportProgress) -> RunnerInfo:
        """Build the first runner. It has yet to be proven: see `smoke_test`.

        Raises:
            StartupError: it cannot be built.
        """

        def report(news: LoadProgress) -> None:
            self.progress = news
            progress(news)

        return await self._executor.start(report)

    async def smoke_test(self, limits: RunnerLimits) -> None:
        """Let one token through a scheduler of its own, which leaves no trace in the statistics.

        Raises:
            StartupError: no token came, or from damaged numbers.
        """
        try:
            await self._make_token(limits)
        except EngineDeadError as error:
            raise StartupError(f"the model failed at its first token: {error}") from error

    async def replace(self, limits: RunnerLimits, excused: int) -> None:
        """Build another runner, and a further one if that is lost before it is up.

        Args:
            excused: see Executor.restart.

        Raises:
            EngineDeadError: there can be no other.
        """
        while True:
            self.loss = "was lost"
            self.loss = await self._executor.wait_lost()
            self.progress = LoadProgress()
            try:
                await self._executor.restart(self._note, excused)
                await self._make_token(limits)
                return
            except WorkerLostError:
                excused = 0
            except StartupError as error:
                raise EngineDeadError(f"after a restart of the worker, {error.message}") from error

    async def _make_token(self, limits: RunnerLimits) -> None:
        scheduler = Scheduler(self._config, limits, hash_key=b"")
        prompt_ids = limits.prompt_marks.shortest_prompt if limits.prompt_marks else [0]
        scheduler.add(Request(0, prompt_ids, SamplingParams(max_tokens=1)))
        step = scheduler.schedule()
        if step is None:
            raise StartupError("nothing can be scheduled within the runner's limits")
        output = await self._executor.submit(step)
        if INVALID_TOKEN_ID in output.token_ids:
            raise StartupError(
                "the model's first token came from numbers that are not finite; the weights are "
                "damaged, or need another --dtype"
            )

    def _note(self, progress: LoadProgress) -> None:
        self.progress = progress
