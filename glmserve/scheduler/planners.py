"""Two planners over the same blocks: one for requests, one for those in the background.

Requests in the background use what the others leave: steps that no other request needs, and of the
others' steps a small share of the time (`spare_time.py`). A request that arrives waits for one step
in the background at most, and takes the blocks that it needs from them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from glmserve.cache import BlockManager
from glmserve.contract.step import RunnerLimits
from glmserve.request import Request
from glmserve.scheduler.background_pace import BackgroundPace
from glmserve.scheduler.fairness import FairShares
from glmserve.scheduler.plan import Plan, Scheduled, StepSize
from glmserve.scheduler.planner import Planner
from glmserve.scheduler.spare_time import SpareTime
from glmserve.scheduler.step_pace import StepPace


class BackgroundPlanner(Planner):
    """A planner whose steps are short, because any request that arrives has to wait for one.

    Args:
        background_pace: says how short.
    """

    def __init__(
        self,
        limits: RunnerLimits,
        blocks: BlockManager,
        shares: FairShares,
        background_pace: BackgroundPace,
        pace: StepPace,
        *,
        max_running: int,
        budget: int,
    ) -> None:
        super().__init__(limits, blocks, shares, pace, max_running=max_running, budget=budget)
        self._background_pace = background_pace

    @property
    def _places(self) -> int:
        return self._background_pace.places

    def _turn(self, decodes: list[Request]) -> list[Request]:
        return super()._turn(decodes)[: self._places]

    def plan_beside(self, plan: Plan) -> None:
        """Add to a step of other requests what fits: decodes first, then prompts."""
        decodes, chunks = self.running.split()
        places = self._max_running - len(plan.sequences)
        turn = [request for request in decodes[:places] if self._blocks.extend(request)]
        self._plan_tokens(plan, turn)
        self._limit_time(plan, turn)
        chunks = chunks[: places - len(turn)]
        starts = min(places - len(turn) - len(chunks), self._places - len(self.running))
        self._plan_prompts(plan, chunks, max(0, starts))

    def _limit_time(self, plan: Plan, decodes: list[Request]) -> None:
        if self._limits.chunked_prefill:
            plan.budget = min(plan.budget, self._background_pace.prompt_room)


class Planners:
    """Plans each step for one of the two kinds of requests, or for both.

    Args:
        weights: relative share by tenant; a tenant that is missing has 1.
        in_flight: the steps without output, oldest first.
        max_running: maximum number of running requests of each kind.
        budget: maximum number of new tokens in one step.
    """

    def __init__(
        self,
        limits: RunnerLimits,
        blocks: BlockManager,
        weights: Mapping[str, float],
        pace: StepPace,
        in_flight: deque[list[Scheduled]],
        *,
        max_running: int,
        budget: int,
    ) -> None:
        self._blocks = blocks
        self._in_flight = in_flight
        self._spare_time = SpareTime()
        # Where steps overlap, their times do not tell what one of them costs.
        self._shares_steps = limits.mixes_prefill_and_decode and limits.steps_in_flight == 1
        self.foreground = Planner(
            limits,
            blocks,
            FairShares(weights),
            pace,
            max_running=max_running,
            budget=budget,
            make_room=self._make_room,
        )
        self._background_pace = BackgroundPace(pace, max_running)
        self.background = BackgroundPlanner(
            limits,
            blocks,
            FairShares(weights),
            self._background_pace,
            pace,
            max_running=max_running,
            budget=budget,
        )

    def __iter__(self) -> Iterator[Planner]:
        yield self.foreground
        yield self.background

    def of(self, request: Request) -> Planner:
        """The planner of a request."""
        return self.background if request.in_background else self.foreground

    @property
    def running(self) -> list[Request]:
        """All requests that hold blocks."""
        return [*self.foreground.running, *self.background.running]

    def plan_step(self, *, may_be_background: bool) -> Plan | None:
        """Plan a step; None if there is nothing to plan now.

        A step in the background is not planned ahead: a request that arrives waits for one of them
        at most.

        Args:
            may_be_background: whether requests in the background may have a step of their own.
        """
        plan = self.foreground.plan_step(is_idle=not self._in_flight)
        if plan is None or not self.background.shares.num_requests:
            return plan
        if plan.sequences:
            if self._may_share(plan):
                self.background.plan_beside(plan)
        elif may_be_background and not self._in_flight and not self._is_needed:
            return self.background.plan_step(is_idle=True)
        return plan

    def record(self, step: StepSize, seconds: float) -> bool:
        """Learn from a step.

        Args:
            seconds: that it took.

        Returns:
            Whether it was of one kind only, so that its time says what such steps cost.
        """
        if 0 < step.background < step.sequences:
            self._spare_time.record_shared(seconds)
            return False
        if not step.others:
            in_background = step.background > 0
            self._background_pace.record_decodes(
                step.sequences, seconds, in_background=in_background
            )
            if not in_background:
                self._spare_time.record_alone(seconds)
        return True

    def _may_share(self, plan: Plan) -> bool:
        """Whether requests in the background may be in this step of other requests.

        A prompt in it, or a request that waits, needs all of its time.
        """
        if not self._shares_steps or not self._spare_time.is_left or self.foreground.waiting:
            return False
        return all(item.num_tokens == 1 for item in plan.scheduled)

    @property
    def _is_needed(self) -> bool:
        """Whether a request other than those in the background waits for its next step."""
        return bool(self.foreground.waiting) or any(map(bool, self.foreground.running.split()))

    def _make_room(self, num_blocks: int) -> None:
        """Take blocks from requests in the background, the youngest first, until so many are free.

        Those in a step in flight keep theirs until it ends.
        """
        if self._blocks.pool.num_free >= num_blocks or not self.background.running:
            return
        computed = {item.request for step in self._in_flight for item in step}
        for request in reversed(list(self.background.running)):
            if self._blocks.pool.num_free >= num_blocks:
                return
            if request not in computed:
                self.background.preempt(request)
