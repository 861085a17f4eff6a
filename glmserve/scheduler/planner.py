"""Plans the next step: which requests run, which wait, which are preempted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from glmserve.cache import BlockManager
from glmserve.contract.step import RunnerLimits
from glmserve.request import Request, RequestStatus
from glmserve.scheduler.admission import WaitingQueue
from glmserve.scheduler.fairness import FairShares
from glmserve.scheduler.plan import Plan
from glmserve.scheduler.running import RunningRequests
from glmserve.scheduler.step_pace import StepPace

_GROWTH_RESERVE = 0.05
"""Share of all blocks that admission keeps free for running requests, at least one block for each.
In simulations this avoids 33 to 90 percent of the tokens that preemption makes the runner compute
again, and 1 to 2 percent fewer requests run at once."""

_LEAST_TURN = 8
"""Decodes that are not shared out between overlapping steps. A step over half of them takes as
long, because it reads the same weights: on a CPU, two steps over four requests each gave half the
tokens per second of one over eight, and two over eight each more than one over sixteen
(bench/pipeline.py, shape S in bfloat16, 2 stages)."""


def _make_none(num_blocks: int) -> None:
    """A `make_room` where there is nothing to take."""


class Planner:
    """Moves requests between waiting and running, and divides a step's token budget.

    Args:
        max_running: maximum number of running requests.
        budget: maximum number of new tokens in one step.
        make_room: takes blocks from requests of less worth until so many are free, if it can.
    """

    def __init__(
        self,
        limits: RunnerLimits,
        blocks: BlockManager,
        shares: FairShares,
        pace: StepPace,
        *,
        max_running: int,
        budget: int,
        make_room: Callable[[int], None] = _make_none,
    ) -> None:
        self.shares = shares
        self.waiting = WaitingQueue(shares)
        self.running = RunningRequests(shares)
        self.num_preemptions = 0
        self.num_prefix_queries = 0
        """Prompt tokens looked up in the prefix cache."""
        self.num_prefix_hits = 0
        """Prompt tokens found there."""
        self._limits = limits
        self._blocks = blocks
        self._pace = pace
        self._max_running = max_running
        self._budget = budget
        self._make_room = make_room
        self._num_plans = 0
        # A request never leaves a block that holds a whole context.
        self._can_grow = limits.block_size < limits.max_context
        self._growth_reserve = int(_GROWTH_RESERVE * limits.num_blocks)

    def plan_step(self, *, is_idle: bool) -> Plan | None:
        """Plan a step, or return None if a request must be preempted while a step is in flight.

        Args:
            is_idle: whether no step is in flight.
        """
        if not self._enforce_shares(is_idle=is_idle):
            return None
        decodes, chunks = self.running.split()
        turn = self._turn(decodes)
        self._make_room(len(turn))
        preempted = not all(map(self._blocks.extend, turn))
        if preempted:
            if not is_idle:
                return None  # requests that end with the steps in flight may free enough blocks
            self._preempt_for(turn)
            turn = [request for request in turn if request.status is RequestStatus.RUNNING]
            decodes, chunks = self.running.split()
        plan = Plan(self._budget)
        if self._limits.mixes_prefill_and_decode:
            self._plan_tokens(plan, self._select_decodes(turn, decodes, chunks))
            self._limit_time(plan, decodes)
        max_starts = 0 if preempted else max(0, self._places - len(decodes) - len(chunks))
        self._plan_prompts(plan, chunks, max_starts)
        if not plan.sequences and not self._limits.mixes_prefill_and_decode:
            started = [request for request in self.running.split()[0] if request not in decodes]
            self._plan_tokens(plan, [*turn, *started])
        self._remember_order(plan)
        return plan

    @property
    def _places(self) -> int:
        """Requests that may run at once."""
        return self._max_running

    def _limit_time(self, plan: Plan, decodes: list[Request]) -> None:
        """Leave no more of the budget to prompts than the decodes should wait for.

        If steps overlap, this one delays the decodes of the others.
        """
        delayed = decodes if self._limits.steps_in_flight > 1 else plan.sequences
        room = self._pace.room
        if delayed and self._limits.chunked_prefill and room is not None:
            plan.budget = min(plan.budget, room)

    def _turn(self, decodes: list[Request]) -> list[Request]:
        """The decoding requests whose turn it is.

        If steps overlap, each has an equal part of the requests, and none that a step in flight
        chooses a token for. Those that have waited longest come first: parts become smaller as
        requests end, and a request that finds no place in its part is the first of the next.
        """
        overlapping = self._limits.steps_in_flight
        if overlapping == 1:
            return decodes
        ready = [request for request in decodes if not request.num_pending_tokens]
        ready.sort(key=lambda request: request.last_plan)
        turns = min(overlapping, max(1, len(decodes) // _LEAST_TURN))
        return ready[: -(-len(decodes) // turns)]

    def _remember_order(self, plan: Plan) -> None:
        """Keep the order in which requests were planned, for `_turn`."""
        if self._limits.steps_in_flight > 1 and plan.sequences:
            self._num_plans += 1
            for item in plan.scheduled:
                item.request.last_plan = self._num_plans

    def plan_alone(self, request: Request) -> Plan | None:
        """Plan a step that computes only this request; None: others hold the blocks that it needs.

        No step may be in flight.
        """
        if request.status is not RequestStatus.RUNNING:
            while not self._start(request, self._budget):
                if not self.running:
                    return None
                self.preempt(self.running.victim)
        plan = Plan(self._budget)
        self._plan_tokens(plan, [request])
        return plan

    def _enforce_shares(self, *, is_idle: bool) -> bool:
        """Start waiting requests of tenants below their share; preempt those of tenants above it.

        Returns:
            False if a request must be preempted and a step is in flight.
        """
        while self.shares.is_contended and (request := self.waiting.peek()) is not None:
            if not self.shares.num_running(request.tenant) and self._start_early(request):
                continue
            over_share_victim = self._over_share_victim(request)
            if over_share_victim is None:
                return True
            if not is_idle:
                return False
            self.preempt(over_share_victim)
            self._start_early(request)
        return True

    def _start_early(self, request: Request) -> bool:
        """Start a waiting request before the budget is divided; False if it does not fit."""
        has_place = len(self.running) < self._max_running
        return has_place and self._limits.chunked_prefill and self._start(request, self._budget)

    def _over_share_victim(self, request: Request) -> Request | None:
        """The running request to preempt for `request`, or None."""
        over_share_victim = None
        if len(self.running) >= self._max_running:
            over_share_victim = self.running.over_share_victim(request, lambda _: 1, 1)
            if over_share_victim is None:
                return None
        needed = self._blocks.blocks_needed(request, self._blocks.match_prefix(request))
        if self._has_room(needed):
            return over_share_victim
        by_blocks = self.running.over_share_victim(request, self._blocks.num_held, needed)
        return by_blocks if over_share_victim is None or by_blocks is None else over_share_victim

    def _select_decodes(
        self, turn: list[Request], decodes: list[Request], chunks: list[Request]
    ) -> list[Request]:
        """The decodes of this step: all whose turn it is, or fewer if a tenant waits for its first
        token.

        On a CPU every sequence makes a step longer. If the first prompt in service order fits into
        one step and its tenant decodes nothing, decodes that come after it in service order are
        left out, so that the tenant gets its first token soon.
        """
        if not self.shares.is_contended or not chunks:
            return turn
        first = min(chunks, key=self._service_order)
        if first.num_unscheduled_tokens > self._budget:
            return turn
        if any(request.tenant == first.tenant for request in decodes):
            return turn
        return [
            request for request in turn if self._service_order(request) < self._service_order(first)
        ]

    def _preempt_for(self, decodes: list[Request]) -> None:
        """Give every decoding request a slot for its next token, or preempt it.

        No step may be in flight, so that no token that is being sampled is lost.
        """
        for request in decodes:
            while request.status is RequestStatus.RUNNING and not self._blocks.extend(request):
                self.preempt(self.running.victim)

    def preempt(self, request: Request) -> None:
        """Requeue a running request so that others can use its blocks, and count the preemption."""
        self.requeue(request)
        self.num_preemptions += 1

    def requeue(self, request: Request) -> None:
        """Free a running request's blocks and queue it. Its tokens are recomputed later."""
        self.running.remove(request)
        self._blocks.free(request)
        request.status = RequestStatus.PREEMPTED
        request.num_preemptions += 1
        if request.needs_whole_prompt:
            request.forget_prompt()
        self.waiting.push(request)

    def _plan_tokens(self, plan: Plan, requests: Iterable[Request]) -> None:
        """Compute as many of the requests' tokens as the budget allows, in order."""
        is_contended = self.shares.is_contended
        for request in requests:
            num_tokens = min(request.num_unscheduled_tokens, plan.budget)
            if num_tokens:
                samples = plan.add(request, num_tokens, self._blocks.block_table(request))
                if is_contended:
                    self.shares.charge(request, num_tokens, samples=samples)

    def _plan_prompts(self, plan: Plan, chunks: list[Request], max_starts: int) -> None:
        """Continue prompts in chunks and start waiting requests, in service order.

        If the first waiting request does not fit, no other is started: later ones could take the
        blocks that it waits for.
        """
        if self.shares.is_contended:
            chunks.sort(key=self._service_order)
        for chunk in chunks:
            while max_starts and self._waiting_precedes(chunk) and self._admit_next(plan):
                max_starts -= 1
            self._plan_tokens(plan, [chunk])
        while max_starts and self._admit_next(plan):
            max_starts -= 1

    def _waiting_precedes(self, chunk: Request) -> bool:
        request = self.waiting.peek()
        return request is not None and self._service_order(request) < self._service_order(chunk)

    def _service_order(self, request: Request) -> tuple[int, float, int, int]:
        return request.priority, *self.shares.service_order(request.tenant), request.id

    def _admit_next(self, plan: Plan) -> bool:
        """Start the next waiting request, if there is one and it fits. Returns whether it did."""
        request = self.waiting.peek()
        if request is None or not plan.budget or not self._start(request, plan.budget):
            return False
        if self._limits.mixes_prefill_and_decode or request.num_unscheduled_tokens > 1:
            self._plan_tokens(plan, [request])
        return True

    def _start(self, request: Request, budget: int) -> bool:
        """Give a waiting request blocks for all its tokens, if running requests can still grow.

        Returns:
            Whether the request runs now.
        """
        match = self._blocks.match_prefix(request)
        needed = self._blocks.blocks_needed(request, match)
        if not self._has_room(needed):
            return False
        num_cached = len(match.blocks) * self._limits.block_size
        if not self._limits.chunked_prefill and request.num_tokens - num_cached > budget:
            return False
        self._blocks.allocate(request, match)
        self.waiting.take(request)
        self.running.add(request)
        if not request.num_preemptions:
            request.num_cached_tokens = num_cached
            self.num_prefix_queries += request.num_prompt_tokens
            self.num_prefix_hits += num_cached
        return True

    def _has_room(self, needed: int) -> bool:
        """Whether `needed` blocks are free, beside the reserve for running requests to grow.

        Without the reserve a request would be preempted soon, and its prompt computed twice.
        """
        if self.running and self._can_grow:
            needed += max(len(self.running), self._growth_reserve)
        self._make_room(needed)
        return needed <= self._blocks.pool.num_free
