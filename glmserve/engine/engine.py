"""Serves requests with one runner, from its start to its end."""

from __future__ import annotations

import asyncio
import enum
import itertools
import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from glmserve.config import LoadProgress, ReportProgress, SchedulerConfig
from glmserve.contract.step import RunnerInfo, RunnerLimits
from glmserve.engine.open_streams import EngineObserver, OpenStreams
from glmserve.engine.runner_supervisor import RunnerSupervisor
from glmserve.engine.stats import EngineStats
from glmserve.engine.step_pipeline import StepPipeline
from glmserve.engine.token_stream import TokenStream
from glmserve.errors import (
    CrashingRequestError,
    EngineDeadError,
    NotReadyError,
    OptionError,
    WorkerLostError,
)
from glmserve.executor import Executor
from glmserve.request import Progress, Request, RequestStatus, SamplingParams, TokenConstraint
from glmserve.scheduler import MAX_CRASHES, Scheduler

logger = logging.getLogger(__name__)


class EngineState(enum.Enum):
    """LOADING -> READY <-> RESTARTING; there is no way back from DEAD."""

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    """The runner is lost, and another is being built. Requests are queued as ever."""
    DEAD = "dead"


class ChoiceSpec(NamedTuple):
    """One of several continuations of a prompt."""

    params: SamplingParams
    constraint: TokenConstraint | None = None
    progress: Progress | None = None
    """Where to go on, if it was under way before."""


class SchedulingAttributes(NamedTuple):
    """How a request stands to others."""

    tenant: str = ""
    """Whose it is."""
    priority: int = 0
    """Lower runs first."""
    cache_salt: bytes = b""
    """Prompts are shared only between requests with equal salt."""


_NO_STANDING = SchedulingAttributes()


class Engine:
    """Serves token streams from one executor.

    Everything here runs on one event loop; no locks are needed.

    Args:
        executor: where the runner lives.
        config: the operator's scheduling choices.
        hash_key: secret for the prefix cache's hashes.
        observer: is told what comes and what becomes of it.
    """

    def __init__(
        self,
        executor: Executor,
        config: SchedulerConfig,
        *,
        hash_key: bytes,
        observer: EngineObserver | None = None,
    ) -> None:
        self.stats = EngineStats()
        self.state = EngineState.LOADING
        self.died = asyncio.Event()
        self.cause_of_death: EngineDeadError | None = None
        self._executor = executor
        self._supervisor = RunnerSupervisor(executor, config)
        self._config = config
        self._hash_key = hash_key
        self._observer = observer
        self._info: RunnerInfo | None = None
        self._scheduler: Scheduler | None = None
        self._steps: StepPipeline | None = None
        self._streams = OpenStreams(self.stats, observer, self._abort, config.queue_timeout)
        self._refusal: str | None = None  # what new requests are told
        self._ids = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def info(self) -> RunnerInfo:
        """What the runner reported.

        Raises:
            NotReadyError: it is not up yet.
        """
        if self._info is None:
            raise NotReadyError("the model is still loading; try again in a moment")
        return self._info

    @property
    def load_progress(self) -> LoadProgress:
        """How far the runner has come that is being built."""
        return self._supervisor.progress

    @property
    def loss(self) -> str:
        """What became of the last runner that was lost, as in "the worker ..."."""
        return self._supervisor.loss

    @property
    def speculates(self) -> bool:
        """Whether tokens are guessed ahead."""
        return self._config.speculative_tokens > 0

    async def start(self, progress: ReportProgress) -> None:
        """Build the runner and become ready once a real token has come out of it.

        Raises:
            StartupError: the runner cannot be built or computes nothing usable.
            OptionError: an option asks for what the runner cannot do.
        """

        self._info = await self._supervisor.build(progress)
        limits = self._info.limits
        if self._config.speculative_tokens and not limits.max_drafts:
            raise OptionError(
                f"--speculative-tokens cannot be used here: the runner of {self._info.device} "
                "takes no guessed tokens"
            )
        scheduler = self._scheduler = Scheduler(self._config, limits, hash_key=self._hash_key)
        steps = self._steps = StepPipeline(self._executor, scheduler, self._streams, self.stats)
        self.stats.watch(lambda: scheduler.stats, limits.num_blocks)
        await self._supervisor.smoke_test(limits)
        self._tasks.add(asyncio.create_task(self._run(scheduler, steps, limits)))
        self._watch_executor(steps)
        if self._observer is not None:
            self._observer.begin(self._info)
        self.state = EngineState.READY

    def submit(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        standing: SchedulingAttributes = _NO_STANDING,
        constraint: TokenConstraint | None = None,
    ) -> TokenStream:
        """Queue a request. The caller must close the stream, or drain it.

        Raises: see submit_group.
        """
        variant = ChoiceSpec(params, constraint)
        return self.submit_group(prompt_ids, [variant], standing)[0]

    def submit_group(
        self,
        prompt_ids: list[int],
        variants: Sequence[ChoiceSpec],
        standing: SchedulingAttributes = _NO_STANDING,
        prediction: Sequence[int] = (),
    ) -> list[TokenStream]:
        """Queue several continuations of one prompt, which is computed once for all of them.

        Args:
            prediction: see Request.

        Raises:
            NotReadyError, EngineDeadError: this engine is not serving.
            InvalidRequestError, ContextLengthError, QueueFullError: see Scheduler.add.
        """
        if self.state is EngineState.DEAD:
            raise EngineDeadError("the model's worker is gone; the server is shutting down")
        if self._scheduler is None or self._steps is None or self.state is EngineState.LOADING:
            raise NotReadyError("the model is still loading; try again in a moment")
        if self._refusal is not None:
            raise NotReadyError(self._refusal)
        requests = [
            Request(
                next(self._ids),
                prompt_ids,
                v.params,
                standing.priority,
                standing.cache_salt,
                v.constraint,
                prediction,
                standing.tenant,
            )
            for v in variants
        ]
        for request, variant in zip(requests, variants, strict=True):
            if variant.progress is not None:
                request.restore(variant.progress)
        if unfinished := [request for request in requests if not request.status.is_finished]:
            self._scheduler.add(*unfinished)
            self._steps.news.set()
        return self._streams.open(requests)

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused."""
        return self._refusal is not None

    def drain(self, reason: str) -> None:
        """Refuse what comes and what waits, with NotReadyError; what has begun goes on.

        Args:
            reason: what clients are told.
        """
        self._refusal = reason
        self._streams.fail_waiting(NotReadyError(reason))

    def stop_draining(self) -> None:
        """Accept requests again."""
        self._refusal = None

    def end_streams(self) -> None:
        """Tell every consumer that the server is shutting down; nothing is accepted any more."""
        self._die(EngineDeadError("the server is shutting down"))

    async def close(self) -> None:
        """Stop the loop, end all streams and stop the runner."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.end_streams()
        await self._executor.close()
        if self._steps is not None:
            self._steps.close()

    def _abort(self, request: Request, status: RequestStatus) -> None:
        assert self._scheduler is not None  # where requests come from
        self._scheduler.abort(request, status)

    async def _run(self, scheduler: Scheduler, steps: StepPipeline, limits: RunnerLimits) -> None:
        try:
            while self.state is not EngineState.DEAD:
                try:
                    await steps.run()
                except WorkerLostError:
                    await self._recover(scheduler, steps, limits)
        except EngineDeadError as error:
            self._die(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a panic of compiled code is no Exception
            logger.exception("the engine loop failed")
            self._die(EngineDeadError(f"the engine failed: {error!r}"))
        finally:
            steps.forget_steps()

    def _watch_executor(self, steps: StepPipeline) -> None:
        """Wake the loop if this runner is lost while nobody waits for a step."""

        async def watch() -> None:
            await self._executor.wait_lost()
            steps.news.set()

        task = asyncio.create_task(watch())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recover(
        self, scheduler: Scheduler, steps: StepPipeline, limits: RunnerLimits
    ) -> None:
        """Have everything that runs recomputed by a new runner; nobody's stream ends.

        Raises:
            EngineDeadError: there can be no new one.
        """
        begin = time.perf_counter()
        steps.forget_steps()
        poison_requests = scheduler.restart()
        for request in poison_requests:
            error = _crashing(request)
            logger.error("%s", error)
            self._streams.fail(request, error)
        if self.state is EngineState.DEAD:
            return  # the server is shutting down
        self.state = EngineState.RESTARTING
        await self._supervisor.replace(limits, MAX_CRASHES * len(poison_requests))
        seconds = time.perf_counter() - begin
        self.stats.worker_restarted(seconds)
        logger.warning("the worker is back after %.1f s", seconds)
        self._watch_executor(steps)
        if self.state is EngineState.RESTARTING:
            self.state = EngineState.READY

    def _die(self, error: EngineDeadError) -> None:
        """No more tokens will come: tell every consumer."""
        self.state = EngineState.DEAD
        self.cause_of_death = self.cause_of_death or error
        self.died.set()
        if self._steps is not None:
            self._steps.stop()
        self._streams.fail_all(error)


def _crashing(request: Request) -> CrashingRequestError:
    where = "its prompt" if not request.num_output_tokens else "the step after its last token"
    return CrashingRequestError(
        f"the worker process that runs the model has died {MAX_CRASHES} times over {where}, the "
        "last time with no other request beside it, so this request is given up"
    )
