"""The engine loop: schedule, execute, update, deliver."""

from __future__ import annotations

import asyncio
import enum
import itertools
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from glmserve.config import LoadProgress, ReportProgress, SchedulerConfig
from glmserve.engine.mask_maker import Mask, MaskMaker
from glmserve.engine.runner_keeper import RunnerKeeper
from glmserve.engine.stats import EngineStats
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
from glmserve.scheduler import MAX_CRASHES, Scheduler, TokenUpdate
from glmserve.step import NOT_A_NUMBER, RunnerInfo, RunnerLimits, StepOutput, TokenMasks

logger = logging.getLogger(__name__)

_NO_TOKEN = (None, NOT_A_NUMBER)
"""What a TokenUpdate has in place of a token's id."""


class EngineState(enum.Enum):
    """LOADING -> READY <-> RESTARTING; there is no way back from DEAD."""

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    """The runner is lost, and another is being built. Requests are queued as ever."""
    DEAD = "dead"


class Variant(NamedTuple):
    """One of several continuations of a prompt."""

    params: SamplingParams
    constraint: TokenConstraint | None = None
    progress: Progress | None = None
    """Where to go on, if it was under way before."""


class _StepUnderWay(NamedTuple):
    step_id: int
    output: asyncio.Future[StepOutput]


class Engine:
    """Serves token streams from one executor.

    Everything here runs on one event loop; no locks are needed.

    Args:
        executor: where the runner lives.
        config: the operator's scheduling choices.
        hash_key: secret for the prefix cache's hashes.
    """

    def __init__(self, executor: Executor, config: SchedulerConfig, *, hash_key: bytes) -> None:
        self.stats = EngineStats()
        self.state = EngineState.LOADING
        self.died = asyncio.Event()
        self.cause_of_death: EngineDeadError | None = None
        self._executor = executor
        self._keeper = RunnerKeeper(executor, config)
        self._config = config
        self._hash_key = hash_key
        self._info: RunnerInfo | None = None
        self._scheduler: Scheduler | None = None
        self._streams: dict[int, TokenStream] = {}
        self._refusal: str | None = None  # what new requests are told
        self._ids = itertools.count()
        self._under_way: deque[_StepUnderWay] = deque()
        self._news = asyncio.Event()  # something came in that no step was planned with
        self._masks = MaskMaker()
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
        return self._keeper.progress

    @property
    def loss(self) -> str:
        """What became of the last runner that was lost, as in "the worker ..."."""
        return self._keeper.loss

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

        self._info = await self._keeper.build(progress)
        limits = self._info.limits
        if self._config.speculative_tokens and not limits.max_drafts:
            raise OptionError(
                f"--speculative-tokens cannot be used here: the runner of {self._info.device} "
                "takes no guessed tokens"
            )
        self._scheduler = Scheduler(self._config, limits, hash_key=self._hash_key)
        self.stats.watch(lambda: self._ready_scheduler().stats, limits.num_blocks)
        await self._keeper.prove(limits)
        self._tasks.add(asyncio.create_task(self._run(self._scheduler, limits)))
        self._watch_executor()
        self.state = EngineState.READY

    def submit(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        *,
        priority: int = 0,
        cache_salt: bytes = b"",
        constraint: TokenConstraint | None = None,
    ) -> TokenStream:
        """Queue a request. The caller must close the stream, or drain it.

        Raises: see submit_group.
        """
        variant = Variant(params, constraint)
        return self.submit_group(prompt_ids, [variant], priority, cache_salt)[0]

    def submit_group(
        self,
        prompt_ids: list[int],
        variants: Sequence[Variant],
        priority: int = 0,
        cache_salt: bytes = b"",
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
        if self.state is EngineState.LOADING:
            raise NotReadyError("the model is still loading; try again in a moment")
        if self._refusal is not None:
            raise NotReadyError(self._refusal)
        requests = [
            Request(
                next(self._ids),
                prompt_ids,
                v.params,
                priority,
                cache_salt,
                v.constraint,
                prediction,
            )
            for v in variants
        ]
        for request, variant in zip(requests, variants, strict=True):
            if variant.progress is not None:
                request.take_up(variant.progress)
        unfinished = [request for request in requests if not request.status.is_finished]
        if unfinished:
            self._ready_scheduler().add(*unfinished)
        now = time.perf_counter()
        streams = [TokenStream(request, self._end, now) for request in requests]
        self._streams.update((s.request.id, s) for s in streams if not s.request.status.is_finished)
        self._news.set()
        return streams

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
        waiting = [
            stream.request
            for stream in self._streams.values()
            if not any(request.status.has_begun for request in stream.answer)
        ]
        for request in waiting:
            self._fail(request, NotReadyError(reason))

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
        self._masks.close()

    def _ready_scheduler(self) -> Scheduler:
        if self._scheduler is None:
            raise NotReadyError("the model is still loading; try again in a moment")
        return self._scheduler

    def _end(self, request: Request, status: RequestStatus) -> None:
        """A consumer has enough, or is gone."""
        stream = self._streams.pop(request.id, None)
        if stream is not None and not request.status.is_finished:
            self._ready_scheduler().abort(request, status)
            self.stats.request_done(request, time.perf_counter() - stream.arrival)

    async def _run(self, scheduler: Scheduler, limits: RunnerLimits) -> None:
        try:
            while self.state is not EngineState.DEAD:
                try:
                    await self._step_forever(scheduler)
                except WorkerLostError:
                    await self._recover(scheduler, limits)
        except EngineDeadError as error:
            self._die(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a panic of compiled code is no Exception
            logger.exception("the engine loop failed")
            self._die(EngineDeadError(f"the engine failed: {error!r}"))
        finally:
            self._forget_steps()

    def _watch_executor(self) -> None:
        """Wake the loop if this runner is lost while nobody waits for a step."""

        async def watch() -> None:
            await self._executor.wait_lost()
            self._news.set()

        task = asyncio.create_task(watch())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recover(self, scheduler: Scheduler, limits: RunnerLimits) -> None:
        """Have everything that runs recomputed by a new runner; nobody's stream ends.

        Raises:
            EngineDeadError: there can be no new one.
        """
        begin = time.perf_counter()
        self._forget_steps()
        convicted = scheduler.restart()
        for request in convicted:
            error = _crashing(request)
            logger.error("%s", error)
            self._fail(request, error)
        if self.state is EngineState.DEAD:
            return  # the server is shutting down
        self.state = EngineState.RESTARTING
        await self._keeper.replace(limits, MAX_CRASHES * len(convicted))
        seconds = time.perf_counter() - begin
        self.stats.worker_restarted(seconds)
        logger.warning("the worker is back after %.1f s", seconds)
        self._watch_executor()
        if self.state is EngineState.RESTARTING:
            self.state = EngineState.READY

    async def _step_forever(self, scheduler: Scheduler) -> None:
        """Keep the runner busy; plan and deliver while it computes.

        Raises:
            WorkerLostError: it is lost. All tokens so far are delivered.
        """
        updates: list[TokenUpdate] = []
        while self.state is not EngineState.DEAD:
            if not self._under_way and not self._begin_step(scheduler):
                self._deliver(updates)
                updates = []
                await self._wait_for_news()
                continue
            constrained = scheduler.constrained_in_flight
            masks = self._masks.start(constrained) if constrained else None
            self._begin_step(scheduler)
            self._deliver(updates)
            if masks is not None:
                await self._send_masks(self._under_way[0].step_id, constrained, masks)
            updates = scheduler.update(await self._next_output(scheduler))
            self.stats.step_done(sum(update.token_id not in _NO_TOKEN for update in updates))

    async def _wait_for_news(self) -> None:
        """Nothing is under way: wait for a request, or for the runner's loss."""
        if not self._executor.is_lost:
            await self._news.wait()
        if self._executor.is_lost:
            raise WorkerLostError

    def _begin_step(self, scheduler: Scheduler) -> bool:
        """Plan a step and hand it to the executor; False if there is none to plan now."""
        self._news.clear()
        step = scheduler.schedule()
        if step is None:
            return False
        self._under_way.append(_StepUnderWay(step.step_id, self._executor.submit(step)))
        return True

    async def _next_output(self, scheduler: Scheduler) -> StepOutput:
        """Wait for the oldest step under way.

        If there was nothing to plan behind it, requests that arrive meanwhile are planned at once.
        """
        output = self._under_way[0].output
        if scheduler.can_schedule:
            output.add_done_callback(lambda _: self._news.set())
        while scheduler.can_schedule and not output.done():
            await self._news.wait()
            if not output.done():
                self._begin_step(scheduler)
        await output
        self._under_way.popleft()
        return output.result()

    def _forget_steps(self) -> None:
        """Nobody waits any more for what is under way."""
        for step in self._under_way:
            if step.output.done() and not step.output.cancelled():
                step.output.exception()  # if there is one, it is what ended the loop
            step.output.cancel()
        self._under_way.clear()

    async def _send_masks(
        self, step_id: int, requests: list[Request], masks: asyncio.Future[list[Mask]]
    ) -> None:
        """Give the step under way the masks it waits for; a constraint may fail its request."""
        sent = []
        for request, mask in zip(requests, await masks, strict=True):
            if isinstance(mask, GlmserveError):
                self._fail(request, mask)
                mask = b""
            sent.append(mask)
        self._executor.send_masks(TokenMasks(step_id, sent))

    def _deliver(self, updates: list[TokenUpdate]) -> None:
        if not updates:
            return
        now = time.perf_counter()
        for request, token_id, logprobs, is_last in updates:
            stream = self._streams[request.id]
            if token_id is None:
                stream.end()
            elif token_id == NOT_A_NUMBER:
                stream.fail(GlmserveError("the model produced numbers that are not finite"))
            else:
                if stream.last_token is None:
                    self.stats.first_token(now - stream.arrival)
                else:
                    self.stats.inter_token(now - stream.last_token)
                stream.push(token_id, logprobs, now)
            if is_last:
                del self._streams[request.id]
                self.stats.request_done(request, now - stream.arrival)

    def _fail(self, request: Request, error: GlmserveError) -> None:
        """End one request with an error."""
        stream = self._streams.get(request.id)
        if stream is not None:
            self._end(request, RequestStatus.FINISHED_ERROR)
            stream.fail(error)

    def _die(self, error: EngineDeadError) -> None:
        """No more tokens will come: tell every consumer."""
        self.state = EngineState.DEAD
        self.cause_of_death = self.cause_of_death or error
        self.died.set()
        for stream in self._streams.values():
            stream.request.status = RequestStatus.FINISHED_ERROR
            stream.fail(error)
        self._streams.clear()


def _crashing(request: Request) -> CrashingRequestError:
    where = "its prompt" if not request.num_output_tokens else "the step after its last token"
    return CrashingRequestError(
        f"the worker process that runs the model has died {MAX_CRASHES} times over {where}, the "
        "last time with no other request beside it, so this request is given up"
    )
