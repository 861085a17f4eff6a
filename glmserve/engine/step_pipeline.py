"""Keeps the runner busy: plans and delivers while it computes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from glmserve.contract.step import INVALID_TOKEN_ID, StepOutput, TokenMasks
from glmserve.engine.grammar_mask_worker import GrammarMaskWorker, Mask
from glmserve.engine.open_streams import OpenStreams
from glmserve.engine.stats import EngineStats
from glmserve.errors import GlmserveError, WorkerLostError
from glmserve.executor import Executor
from glmserve.request import Request
from glmserve.scheduler import Scheduler, TokenUpdate

_NO_TOKEN = (None, INVALID_TOKEN_ID)
"""What a TokenUpdate has in place of a token's id."""


class _StepUnderWay(NamedTuple):
    step_id: int
    output: asyncio.Future[StepOutput]


class StepPipeline:
    """The steps that are planned and not done.

    Args:
        streams: where tokens go.
    """

    def __init__(
        self, executor: Executor, scheduler: Scheduler, streams: OpenStreams, stats: EngineStats
    ) -> None:
        self.news = asyncio.Event()
        """Something came in that no step was planned with, or the runner is lost."""
        self._executor = executor
        self._scheduler = scheduler
        self._streams = streams
        self._stats = stats
        self._masks = GrammarMaskWorker()
        self._under_way: deque[_StepUnderWay] = deque()
        self._is_stopped = False

    async def run(self) -> None:
        """Step until told to stop.

        Raises:
            WorkerLostError: the runner is lost. All tokens so far are delivered.
            EngineDeadError: it is lost for good.
        """
        updates: list[TokenUpdate] = []
        while not self._is_stopped:
            if not self._under_way and not self._begin_step():
                self._streams.deliver(updates)
                updates = []
                await self._wait_for_news()
                continue
            constrained = self._scheduler.constrained_in_flight
            masks = self._masks.start(constrained) if constrained else None
            self._begin_step()
            self._streams.deliver(updates)
            if masks is not None:
                await self._send_masks(self._under_way[0].step_id, constrained, masks)
            updates = self._scheduler.update(await self._next_output())
            self._stats.step_done(sum(update.token_id not in _NO_TOKEN for update in updates))

    def forget_steps(self) -> None:
        """Nobody waits any more for what is under way."""
        for step in self._under_way:
            if step.output.done() and not step.output.cancelled():
                step.output.exception()  # if there is one, it is what ended the loop
            step.output.cancel()
        self._under_way.clear()

    def stop(self) -> None:
        """Begin no more steps."""
        self._is_stopped = True

    def close(self) -> None:
        """Free what it has."""
        self._masks.close()

    async def _wait_for_news(self) -> None:
        """Nothing is under way: wait for a request, or for the runner's loss."""
        if not self._executor.is_lost:
            await self.news.wait()
        if self._executor.is_lost:
            raise WorkerLostError

    def _begin_step(self) -> bool:
        """Plan a step and hand it to the executor; False if there is none to plan now."""
        self.news.clear()
        step = self._scheduler.schedule()
        if step is None:
            return False
        self._under_way.append(_StepUnderWay(step.step_id, self._executor.submit(step)))
        return True

    async def _next_output(self) -> StepOutput:
        """Wait for the oldest step under way.

        If there was nothing to plan behind it, requests that arrive meanwhile are planned at once.
        """
        output = self._under_way[0].output
        if self._scheduler.can_schedule:
            output.add_done_callback(lambda _: self.news.set())
        while self._scheduler.can_schedule and not output.done():
            await self.news.wait()
            if not output.done():
                self._begin_step()
        await output
        self._under_way.popleft()
        return output.result()

    async def _send_masks(
        self, step_id: int, requests: list[Request], masks: asyncio.Future[list[Mask]]
    ) -> None:
        """Give the step under way the masks it waits for; a constraint may fail its request."""
        sent = []
        for request, mask in zip(requests, await masks, strict=True):
            if isinstance(mask, GlmserveError):
                self._streams.fail(request, mask)
                mask = b""
            sent.append(mask)
        self._executor.send_masks(TokenMasks(step_id, sent))
