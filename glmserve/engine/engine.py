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
from glmserve.engine.stats import EngineStats
from glmserve.engine.token_stream import TokenStream
from glmserve.errors import EngineDeadError, GlmserveError, NotReadyError, OptionError, StartupError
from glmserve.executor import Executor
from glmserve.request import Request, RequestStatus, SamplingParams, TokenConstraint
from glmserve.scheduler import Scheduler, TokenUpdate
from glmserve.step import NOT_A_NUMBER, RunnerInfo, RunnerLimits, StepOutput, TokenMasks

logger = logging.getLogger(__name__)

_NO_TOKEN = (None, NOT_A_NUMBER)
"""What a TokenUpdate has in place of a token's id."""


class EngineState(enum.Enum):
    """LOADING -> READY -> DEAD; there is no way back from DEAD."""

    LOADING = "loading"
    READY = "ready"
    DEAD = "dead"


class Variant(NamedTuple):
    """One of several continuations of a prompt."""

    params: SamplingParams
    constraint: TokenConstraint | None = None


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
        self.load_progress = LoadProgress()
        self.died = asyncio.Event()
        self._executor = executor
        self._config = config
        self._hash_key = hash_key
        self._info: RunnerInfo | None = None
        self._scheduler: Scheduler | None = None
        self._streams: dict[int, TokenStream] = {}
        self._ids = itertools.count()
        self._under_way: deque[_StepUnderWay] = deque()
        self._news = asyncio.Event()  # something came in that no step was planned with
        self._masks = MaskMaker()
        self._tasks: list[asyncio.Task[None]] = []

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
    def speculates(self) -> bool:
        """Whether tokens are guessed ahead."""
        return self._config.speculative_tokens > 0

    async def start(self, progress: ReportProgress) -> None:
        """Build the runner and become ready once a real token has come out of it.

        Raises:
            StartupError: the runner cannot be built or computes nothing usable.
            OptionError: an option asks for what the runner cannot do.
        """

        def report(news: LoadProgress) -> None:
            self.load_progress = news
            progress(news)

        self._info = await self._executor.start(report)
        limits = self._info.limits
        if self._config.speculative_tokens and not limits.max_drafts:
            raise OptionError(
                f"--speculative-tokens cannot be used here: the runner of {self._info.device} "
                "takes no guessed tokens"
            )
        self._scheduler = Scheduler(self._config, limits, hash_key=self._hash_key)
        self.stats.watch(lambda: self._ready_scheduler().stats, limits.num_blocks)
        await self._prove_it_generates(limits)
        self._tasks = [
            asyncio.create_task(self._run(self._scheduler)),
            asyncio.create_task(self._watch_executor()),
        ]
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
        self._ready_scheduler().add(*requests)
        now = time.perf_counter()
        streams = [TokenStream(request, self._end, now) for request in requests]
        self._streams.update((stream.request.id, stream) for stream in streams)
        self._news.set()
        return streams

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

    async def _prove_it_generates(self, limits: RunnerLimits) -> None:
        """Let one token through a scheduler of its own, which leaves no trace in the statistics."""
        scheduler = Scheduler(self._config, limits, hash_key=self._hash_key)
        prompt_ids = limits.prompt_marks.shortest_prompt if limits.prompt_marks else [0]
        scheduler.add(Request(0, prompt_ids, SamplingParams(max_tokens=1, temperature=0.0)))
        step = scheduler.schedule()
        if step is None:
            raise StartupError("nothing can be scheduled within the runner's limits")
        try:
            output = await self._executor.submit(step)
        except EngineDeadError as error:
            raise StartupError(f"the model failed at its first token: {error}") from error
        if NOT_A_NUMBER in output.token_ids:
            raise StartupError(
                "the model's first token came from numbers that are not finite; the weights are "
                "damaged, or need another --dtype"
            )

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

    async def _run(self, scheduler: Scheduler) -> None:
        try:
            await self._step_forever(scheduler)
        except EngineDeadError as error:
            self._die(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a panic of compiled code is no Exception
            logger.exception("the engine loop failed")
            self._die(EngineDeadError(f"the engine failed: {error!r}"))
        finally:
            self._forget_steps()

    async def _watch_executor(self) -> None:
        """Notice a lost runner while nobody waits for a step."""
        await self._executor.wait_lost()
        self._die(EngineDeadError("the worker process that runs the model has died"))

    async def _step_forever(self, scheduler: Scheduler) -> None:
        """Keep the runner busy; plan and deliver while it computes."""
        updates: list[TokenUpdate] = []
        while self.state is not EngineState.DEAD:
            if not self._under_way and not self._begin_step(scheduler):
                self._deliver(updates)
                updates = []
                await self._news.wait()
                continue
            constrained = scheduler.constrained_in_flight
            masks = self._masks.start(constrained) if constrained else None
            self._begin_step(scheduler)
            self._deliver(updates)
            if masks is not None:
                await self._send_masks(self._under_way[0].step_id, constrained, masks)
            updates = scheduler.update(await self._next_output(scheduler))
            self.stats.step_done(sum(update.token_id not in _NO_TOKEN for update in updates))

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
        self.died.set()
        for stream in self._streams.values():
            stream.request.status = RequestStatus.FINISHED_ERROR
            stream.fail(error)
        self._streams.clear()
