"""Keeps the runner busy: plans steps and delivers tokens while it computes."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from typing import NamedTuple

from glmserve.contract.step import INVALID_TOKEN_ID, StepInput, StepOutput, TokenMasks
from glmserve.engine.grammar_mask_worker import GrammarMaskWorker, Mask
from glmserve.engine.late_planning import LatePlanning
from glmserve.engine.open_streams import OpenStreams
from glmserve.engine.stats import EngineStats
from glmserve.engine.step_watch import StepWatch
from glmserve.errors import GlmserveError, WorkerLostError
from glmserve.executor import Executor
from glmserve.request import Request
from glmserve.scheduler import Scheduler, TokenUpdate

logger = logging.getLogger(__name__)

_NO_TOKEN = (None, INVALID_TOKEN_ID)
"""Values of TokenUpdate.token_id that are not a token."""


_QUIET_SECONDS = 0.05
"""Without other requests, until those in the background get steps of their own. So a client that
asks its next question at once does not meet them."""


class _StepInFlight(NamedTuple):
    step: StepInput
    output: asyncio.Future[StepOutput]
    began: float
    """When it was submitted, by time.perf_counter()."""


class StepPipeline:
    """The loop over steps: masks, plan, submit, deliver, wait for the output.

    Args:
        executor: executes the steps.
        scheduler: plans them.
        streams: receive the tokens.
        stats: counts steps and tokens.
        watch: told about steps while it has readers.
        release_cache_after: see SchedulerConfig.
    """

    def __init__(
        self,
        executor: Executor,
        scheduler: Scheduler,
        streams: OpenStreams,
        stats: EngineStats,
        watch: StepWatch,
        release_cache_after: float = 0.0,
    ) -> None:
        self.work_arrived = asyncio.Event()
        """Set when a request arrives that no step was planned with, when the next step is to be
        planned, or when the runner is lost."""
        self._executor = executor
        self._scheduler = scheduler
        self._streams = streams
        self._stats = stats
        self._watch = watch
        self._release_cache_after = release_cache_after or None
        self._masks = GrammarMaskWorker()
        self._late = LatePlanning(self.work_arrived.set)
        self._in_flight: deque[_StepInFlight] = deque()
        self._last_output = 0.0  # when it came
        self._is_stopped = False
        self._last_needed = -math.inf  # when there were requests other than those in the background
        self._quiet_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Execute steps until `stop` is called.

        Raises:
            WorkerLostError: the runner is lost. All tokens so far are delivered.
            EngineDeadError: the runner is lost and cannot be replaced.
        """
        updates: list[TokenUpdate] = []
        while not self._is_stopped:
            if not self._in_flight and not self._begin_step():
                self._streams.deliver(updates)
                updates = []
                await self._wait_for_work()
                continue
            constrained = self._scheduler.constrained_in_flight
            masks = self._masks.start(constrained) if constrained else None
            self._begin_steps()
            self._streams.deliver(updates)
            if masks is not None:
                await self._send_masks(self._in_flight[0].step.step_id, constrained, masks)
            updates = self._scheduler.update(*await self._next_output())
            self._stats.step_done(sum(update.token_id not in _NO_TOKEN for update in updates))

    def discard_steps(self) -> None:
        """Drop the steps in flight; their outputs are not awaited any more."""
        for step in self._in_flight:
            if step.output.done() and not step.output.cancelled():
                step.output.exception()  # marks it as retrieved: it has ended the loop
            step.output.cancel()
        self._in_flight.clear()

    def stop(self) -> None:
        """Begin no more steps."""
        self._is_stopped = True

    def close(self) -> None:
        """Stop the mask worker and the timers."""
        self._late.cancel()
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
        self._masks.close()

    async def _wait_for_work(self) -> None:
        """Wait for a request while no step is in flight.

        Raises:
            WorkerLostError: the runner is lost.
        """
        if not self._executor.is_lost:
            try:
                async with asyncio.timeout(self._release_cache_after):
                    await self.work_arrived.wait()
            except TimeoutError:
                self._release_cache()
                await self.work_arrived.wait()
        if self._executor.is_lost:
            raise WorkerLostError

    def _release_cache(self) -> None:
        if self._scheduler.forget_cache():
            self._executor.release_cache()
            logger.info(
                "no request came for %g s: the KV cache's memory is given back",
                self._release_cache_after,
            )

    def _begin_step(self) -> bool:
        """Plan a step and hand it to the executor; False if there is none to plan now."""
        self.work_arrived.clear()
        step = self._scheduler.schedule(may_be_background=self._is_quiet())
        if step is None:
            return False
        began = time.perf_counter()
        self._in_flight.append(_StepInFlight(step, self._executor.submit(step), began))
        self._streams.begin(self._scheduler.take_begun())
        return True

    def _is_quiet(self) -> bool:
        """Whether requests in the background may have a step; if not, `work_arrived` is set when
        they may."""
        now = time.perf_counter()
        if self._scheduler.is_needed:
            self._last_needed = now
        if now - self._last_needed >= _QUIET_SECONDS:
            return True
        if self._quiet_timer is None:
            self._quiet_timer = asyncio.get_running_loop().call_later(
                _QUIET_SECONDS, self._end_quiet
            )
        return False

    def _end_quiet(self) -> None:
        self._quiet_timer = None
        self.work_arrived.set()

    def _begin_steps(self) -> None:
        """Begin as many steps as may be in flight now."""
        while self._is_time() and self._begin_step():
            pass

    def _is_time(self) -> bool:
        """Whether the next step may be planned now; if not, `work_arrived` is set when it may, or
        the step in flight is to end first."""
        if not self._scheduler.plans_late:
            return True
        self.work_arrived.clear()  # what has arrived will be in the next step
        if not self._scheduler.can_schedule:
            return False
        began = max(self._in_flight[0].began, self._last_output)
        return self._late.is_time(began, self._scheduler.expected_seconds)

    async def _next_output(self) -> tuple[StepOutput, float]:
        """Wait for the output of the oldest step in flight.

        If fewer steps are in flight than may be, requests that arrive meanwhile are planned at
        once.

        Returns:
            The output; and the seconds since the step began or the one before it ended.
        """
        output = self._in_flight[0].output
        if self._scheduler.can_schedule:
            output.add_done_callback(lambda _: self.work_arrived.set())
        while self._scheduler.can_schedule and not output.done():
            await self.work_arrived.wait()
            if not output.done():
                self._begin_steps()
        result = await output
        began, self._last_output = self._last_output, time.perf_counter()
        done = self._in_flight.popleft()
        seconds = self._last_output - max(began, done.began)
        if self._watch.is_on:
            self._watch.stepped(done.step, result, seconds)
        return result, seconds

    async def _send_masks(
        self, step_id: int, requests: list[Request], masks: asyncio.Future[list[Mask]]
    ) -> None:
        """Send the masks that the oldest step in flight waits for.

        If a constraint failed, its request fails, and an empty mask is sent.
        """
        sent = []
        for request, mask in zip(requests, await masks, strict=True):
            if isinstance(mask, GlmserveError):
                self._streams.fail(request, mask)
                mask = b""
            sent.append(mask)
        self._executor.send_masks(TokenMasks(step_id, sent))
