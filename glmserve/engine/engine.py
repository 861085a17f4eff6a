"""Serves requests with one executor, from its start to its end."""

from __future__ import annotations

import asyncio
import enum
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from glmserve.config import LoadProgress, ReportProgress, SchedulerConfig
from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.step import RunnerInfo, RunnerLimits
from glmserve.engine.adapters import AdapterSlots, AdapterVersion
from glmserve.engine.open_streams import EngineObserver, OpenStreams
from glmserve.engine.runner_supervisor import RunnerSupervisor
from glmserve.engine.stats import EngineStats
from glmserve.engine.step_pipeline import StepPipeline
from glmserve.engine.step_watch import StepWatch
from glmserve.engine.token_stream import TokenStream
from glmserve.errors import (
    CrashingRequestError,
    EngineDeadError,
    GlmserveError,
    NotReadyError,
    OptionError,
    WorkerLostError,
)
from glmserve.executor import Executor
from glmserve.request import Progress, Request, RequestStatus, SamplingParams, TokenConstraint
from glmserve.scheduler import MAX_CRASHES, Scheduler

logger = logging.getLogger(__name__)


class EngineState(enum.Enum):
    """LOADING -> READY <-> RESTARTING. From any state to DEAD, which is final."""

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    """The runner is lost and another is being built. Requests are still queued."""
    DEAD = "dead"


class ChoiceSpec(NamedTuple):
    """One of several continuations of a prompt."""

    params: SamplingParams
    constraint: TokenConstraint | None = None
    progress: Progress | None = None
    """Output of an earlier attempt to continue from, if there was one."""


class SchedulingAttributes(NamedTuple):
    """Attributes by which the scheduler orders requests and shares prefixes between them."""

    tenant: str = ""
    """Name of the tenant that sent the request."""
    priority: int = 0
    """Lower runs first."""
    cache_salt: bytes = b""
    """Prompts are shared only between requests with equal salt, and with equal adapters."""
    adapter: AdapterVersion | None = None
    """The adapter that changes the model for the request; None: the plain model."""
    in_background: bool = False
    """Computed only while no other request can use the model."""


_DEFAULT_ATTRIBUTES = SchedulingAttributes()


class Engine:
    """Serves token streams from one executor.

    Everything here runs on one event loop; no locks are needed.

    Args:
        executor: starts the runner and executes steps.
        config: the operator's scheduling options.
        hash_key: secret that keys the prefix cache's hashes.
        observer: told when the runner is up, and when requests arrive and end.
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
        self.watch = StepWatch()
        self._observers = (self.watch, *([observer] if observer is not None else []))
        self._info: RunnerInfo | None = None
        self._scheduler: Scheduler | None = None
        self._steps: StepPipeline | None = None
        self.adapters = AdapterSlots(executor, self._release, self._fail)
        self._streams = OpenStreams(
            self.stats, self._observers, self._abort, config.queue_timeout, self.adapters.leave
        )
        self._refusal: str | None = None  # why new requests are refused, if they are
        self._ids = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def info(self) -> RunnerInfo:
        """The runner's report about itself.

        Raises:
            NotReadyError: the runner is not up yet.
        """
        if self._info is None:
            raise NotReadyError("the model is still loading; try again in a moment")
        return self._info

    @property
    def load_progress(self) -> LoadProgress:
        """How far the runner has loaded."""
        return self._supervisor.progress

    @property
    def loss(self) -> str:
        """How the last lost runner ended, as a predicate for "the worker"; empty at first."""
        return self._supervisor.loss

    @property
    def missing_machine(self) -> str:
        """Which machine the runner waits for, and since when, as a sentence; empty: none."""
        return self._executor.missing_machine

    @property
    def speculates(self) -> bool:
        """Whether drafts are used (--speculative-tokens)."""
        return self._config.speculative_tokens != 0

    async def start(
        self, progress: ReportProgress, prepare: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Build the runner, generate one token to test it, and become ready.

        Args:
            prepare: called when the runner is up, before requests are accepted.

        Raises:
            StartupError: the runner cannot be built, or generates no valid token.
            OptionError: the runner does not support an option.
        """
        self._info = await self._supervisor.build(progress)
        limits = self._info.limits
        _check_options(self._config, self._info)
        scheduler = self._scheduler = Scheduler(self._config, limits, hash_key=self._hash_key)
        steps = self._steps = StepPipeline(
            *(self._executor, scheduler, self._streams, self.stats, self.watch),
            release_cache_after=self._config.release_cache_after,
        )
        self.watch.attach(
            lambda: self._streams.live,
            scheduler,
            lambda: self.state is EngineState.DEAD or (self.is_draining and not self.is_busy),
        )
        self.stats.watch(lambda: scheduler.stats, self._info)
        self.adapters.capacity = limits.max_adapters
        self.stats.registry.register(self.adapters.stats)
        await self._supervisor.smoke_test(limits)
        self._tasks.add(asyncio.create_task(self._run(scheduler, steps, limits)))
        self._watch_executor(steps)
        for observer in self._observers:
            observer.begin(self._info, scheduler.block_pool)
        if prepare is not None:
            await prepare()
        self.state = EngineState.READY

    def submit(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        attributes: SchedulingAttributes = _DEFAULT_ATTRIBUTES,
        constraint: TokenConstraint | None = None,
    ) -> TokenStream:
        """Queue a request. The caller must close the stream, or read it to its end.

        Raises:
            NotReadyError, EngineDeadError, InvalidRequestError, ContextLengthError,
            QueueFullError: see submit_group.
        """
        choice = ChoiceSpec(params, constraint)
        return self.submit_group(prompt_ids, [choice], attributes)[0]

    def submit_group(
        self,
        prompt_ids: list[int],
        choices: Sequence[ChoiceSpec],
        attributes: SchedulingAttributes = _DEFAULT_ATTRIBUTES,
        prediction: Sequence[int] = (),
    ) -> list[TokenStream]:
        """Queue several choices for one prompt. The prompt is computed once for all of them.

        Args:
            prompt_ids: token ids of the prompt.
            choices: how to generate each choice.
            prediction: token ids that the output may resemble, see Request.

        Returns:
            One stream for each choice. The caller must close each, or read it to its end.

        Raises:
            NotReadyError: the model is loading, or the server is draining.
            EngineDeadError: the engine has ended.
            InvalidRequestError, ContextLengthError, QueueFullError: see Scheduler.add.
            AdapterError: this runner has no adapters.
        """
        if self.state is EngineState.DEAD:
            raise EngineDeadError("the model's worker is gone; the server is shutting down")
        if self._scheduler is None or self._steps is None or self.state is EngineState.LOADING:
            raise NotReadyError("the model is still loading; try again in a moment")
        if self._refusal is not None:
            raise NotReadyError(self._refusal)
        adapter = attributes.adapter
        if adapter is not None:
            self.adapters.check_capacity()
        requests = [
            Request(
                next(self._ids),
                prompt_ids,
                choice.params,
                attributes.priority,
                attributes.cache_salt if adapter is None else adapter.salt + attributes.cache_salt,
                choice.constraint,
                prediction,
                attributes.tenant,
                NO_ADAPTER if adapter is None else adapter.id,
                attributes.in_background,
            )
            for choice in choices
        ]
        for request, choice in zip(requests, choices, strict=True):
            if choice.progress is not None:
                request.restore(choice.progress)
        if unfinished := [request for request in requests if not request.status.is_finished]:
            self._scheduler.add(*unfinished, is_ready=adapter is None)
            self._steps.work_arrived.set()
        streams = self._streams.open(requests)
        if adapter is not None and unfinished:
            self.adapters.enter(adapter, unfinished)
        return streams

    @property
    def is_busy(self) -> bool:
        """Whether there are requests that have not ended."""
        if self._scheduler is None:
            return False
        stats = self._scheduler.stats
        return bool(stats.running or stats.waiting or stats.background)

    @property
    def max_running(self) -> int:
        """Maximum number of running requests.

        Raises:
            NotReadyError: the runner is not up yet.
        """
        if self._scheduler is None:
            raise NotReadyError("the model is still loading; try again in a moment")
        return self._scheduler.max_running

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused."""
        return self._refusal is not None

    def drain(self, reason: str) -> None:
        """Refuse new and waiting requests with NotReadyError. Requests that have begun continue.

        Args:
            reason: the error message for clients.
        """
        self._refusal = reason
        self._streams.fail_waiting(NotReadyError(reason))

    def stop_draining(self) -> None:
        """Accept requests again."""
        self._refusal = None

    def end_streams(self) -> None:
        """End every stream with an error, and accept no more requests."""
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
        assert self._scheduler is not None  # every request was added to it
        self._scheduler.abort(request, status)

    def _release(self, requests: Sequence[Request]) -> None:
        """The adapter of these requests is loaded."""
        assert self._scheduler is not None  # every request was added to it
        assert self._steps is not None
        self._scheduler.release(requests)
        self._steps.work_arrived.set()

    def _fail(self, request: Request, error: GlmserveError) -> None:
        self._streams.fail(request, error)

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
        except BaseException as error:  # a panic of compiled code is not an Exception
            logger.exception("the engine loop failed")
            self._die(EngineDeadError(f"the engine failed: {error!r}"))
        finally:
            steps.discard_steps()

    def _watch_executor(self, steps: StepPipeline) -> None:
        """Wake the loop if this runner is lost while no step is in flight."""

        async def watch() -> None:
            await self._executor.wait_lost()
            steps.work_arrived.set()

        task = asyncio.create_task(watch())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recover(
        self, scheduler: Scheduler, steps: StepPipeline, limits: RunnerLimits
    ) -> None:
        """Replace a lost runner. Running requests are recomputed, and their streams continue.

        Raises:
            EngineDeadError: no new runner can be started.
        """
        begin = time.perf_counter()
        steps.discard_steps()
        self.adapters.lost()
        self._streams.note_lost_worker()
        self.watch.lost()
        if self.state is EngineState.DEAD:
            return  # the server is shutting down
        self.state = EngineState.RESTARTING
        await self._supervisor.wait_lost()
        if self.state is not EngineState.RESTARTING:
            return  # it has been shut down meanwhile
        # No request is the reason why a machine is lost.
        poison_requests = scheduler.restart(blame=not self._executor.lost_machine)
        for request in poison_requests:
            error = _crashing(request)
            logger.error("%s", error)
            self._streams.fail(request, error)
        await self._replace(limits, MAX_CRASHES * len(poison_requests))
        seconds = time.perf_counter() - begin
        self.stats.worker_restarted(seconds)
        logger.warning("the worker is back after %.1f s", seconds)
        self._watch_executor(steps)
        if self.state is EngineState.RESTARTING:
            self.state = EngineState.READY

    async def _replace(self, limits: RunnerLimits, excused: int) -> None:
        """Start another runner, with the adapters of the lost one.

        Args:
            excused: see Executor.restart.

        Raises:
            EngineDeadError: no new runner can be started.
        """
        while True:
            await self._supervisor.replace(limits, excused)
            try:
                await self.adapters.reload()
                return
            except WorkerLostError:
                self.adapters.lost()
                excused = 0

    def _die(self, error: EngineDeadError) -> None:
        """Stop for good, and end every stream with this error."""
        self.state = EngineState.DEAD
        self.cause_of_death = self.cause_of_death or error
        self.died.set()
        if self._steps is not None:
            self._steps.stop()
        self.adapters.close()
        self._streams.fail_all(error)


def _check_options(config: SchedulerConfig, info: RunnerInfo) -> None:
    """Refuse options that the runner does not support.

    Raises:
        OptionError: there is one; the message names it.
    """
    if config.speculative_tokens and not info.limits.max_drafts:
        raise OptionError(
            f"--speculative-tokens cannot be used here: the runner of {info.device} takes no "
            "guessed tokens"
        )
    if config.release_cache_after and not info.limits.releases_cache:
        raise OptionError(
            f"--release-cache-after cannot be used here: the KV cache of {info.device} keeps its "
            "memory; the option is for the native attention backend of a CPU"
        )


def _crashing(request: Request) -> CrashingRequestError:
    where = "its prompt" if not request.num_output_tokens else "the step after its last token"
    return CrashingRequestError(
        f"the worker process that runs the model has died {MAX_CRASHES} times over {where}, the "
        "last time with no other request beside it, so this request is given up"
    )
