"""Two planners over the same blocks: one for requests, one for those in the background.

Requests in the background use what the others leave. They are planned in steps that no other
request needs, so they make no other token wait for longer than one step. They lose their blocks
when another request needs them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from glmserve.cache import BlockManager
from glmserve.contract.step import RunnerLimits
from glmserve.request import Request
from glmserve.scheduler.fairness import FairShares
from glmserve.scheduler.plan import Plan, Scheduled
from glmserve.scheduler.planner import Planner
from glmserve.scheduler.step_pace import StepPace


class BackgroundPlanner(Planner):
    """A planner whose steps are short, because any request that arrives has to wait for one."""

    def _limit_time(self, plan: Plan, decodes: list[Request]) -> None:
        if self._limits.chunked_prefill:
            plan.budget = min(plan.budget, self._pace.background_room)


class Planners:
    """Plans each step for one of the two kinds of requests.

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
        self.foreground = Planner(
            limits,
            blocks,
            FairShares(weights),
            pace,
            max_running=max_running,
            budget=budget,
            make_room=self._make_room,
        )
        self.background = BackgroundPlanner(
            limits, blocks, FairShares(weights), pace, max_running=max_running, budget=budget
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

    def plan_step(self) -> Plan | None:
        """Plan a step; None if there is nothing to plan now.

        A step in the background is not planned ahead: a request that arrives waits for one of them
        at most.
        """
        plan = self.foreground.plan_step(is_idle=not self._in_flight)
        if plan is None or plan.sequences or self._in_flight or self._is_needed:
            return plan
        return self.background.plan_step(is_idle=True)

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
