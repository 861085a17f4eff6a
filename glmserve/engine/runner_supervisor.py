"""Starts and tests a runner, and replaces it when it is lost."""

from __future__ import annotations

from glmserve.config import LoadProgress, ReportProgress, SchedulerConfig
from glmserve.contract.step import INVALID_TOKEN_ID, RunnerInfo, RunnerLimits
from glmserve.errors import EngineDeadError, StartupError, WorkerLostError
from glmserve.executor import Executor
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler


class RunnerSupervisor:
    """Starts runners and tests each by generating one token.

    Args:
        executor: starts the runner and executes steps.
        config: the operator's scheduling options, also used for the test.
    """

    def __init__(self, executor: Executor, config: SchedulerConfig) -> None:
        self.progress = LoadProgress()
        """How far the runner has loaded."""
        self.loss = ""
        """How the last lost runner ended, as a predicate for "the worker"."""
        self._executor = executor
        self._config = config

    async def build(self, progress: ReportProgress) -> RunnerInfo:
        """Build the first runner, without testing it.

        Raises:
            StartupError: it cannot be built.
        """

        def report(update: LoadProgress) -> None:
            self.progress = update
            progress(update)

        return await self._executor.start(report)

    async def smoke_test(self, limits: RunnerLimits) -> None:
        """Generate one token with a separate scheduler, so that statistics do not count it.

        Raises:
            StartupError: the runner failed, or its logits were not finite.
        """
        try:
            await self._generate_token(limits)
        except EngineDeadError as error:
            raise StartupError(f"the model failed at its first token: {error}") from error

    async def wait_lost(self) -> None:
        """Wait until the lost runner is gone, and keep how it ended."""
        self.loss = "was lost"
        self.loss = await self._executor.wait_lost()

    async def replace(self, limits: RunnerLimits, excused: int) -> None:
        """Build and test another runner. If it is lost before it is up, try again.

        Args:
            excused: see Executor.restart.

        Raises:
            EngineDeadError: no new runner can be started.
        """
        while True:
            await self.wait_lost()
            self.progress = LoadProgress()
            try:
                await self._executor.restart(self._set_progress, excused)
                await self._generate_token(limits)
                return
            except WorkerLostError:
                excused = 0
            except StartupError as error:
                raise EngineDeadError(f"after a restart of the worker, {error.message}") from error

    async def _generate_token(self, limits: RunnerLimits) -> None:
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

    def _set_progress(self, progress: LoadProgress) -> None:
        self.progress = progress
