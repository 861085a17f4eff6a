"""What the next step computes, and who yields to whom."""

from __future__ import annotations

from collections.abc import Iterable

from glmserve.cache import BlockManager
from glmserve.contract.step import RunnerLimits
from glmserve.request import Request, RequestStatus
from glmserve.scheduler.admission import WaitingQueue
from glmserve.scheduler.fairness import FairShares
from glmserve.scheduler.plan import Plan
from glmserve.scheduler.running import RunningRequests

_ROOM_TO_GROW = 0.05
"""Part of the blocks that admission leaves to running requests, and a block each at least. In
simulations it avoids a third to nine tenths of what preempted requests compute twice, and costs
one or two percent of those that run at once."""


class Planner:
    """Moves requests between waiting and running, and shares out a step's budget.

    Args:
        max_running: requests that run at once.
        budget: tokens of one step.
    """

    def __init__(
        self,
        limits: RunnerLimits,
        blocks: BlockManager,
        shares: FairShares,
        *,
        max_running: int,
        budget: int,
    ) -> None:
        self.waiting = WaitingQueue(shares)
        self.running = RunningRequests(shares)
        self.num_preemptions = 0
        self.num_prefix_queries = 0
        """Prompt tokens looked up in the prefix cache."""
        self.num_prefix_hits = 0
        """Prompt tokens found there."""
        self._limits = limits
        self._blocks = blocks
        self._shares = shares
        self._max_running = max_running
        self._budget = budget
        self._room_to_grow = int(_ROOM_TO_GROW * limits.num_blocks)

    def plan_step(self, *, is_idle: bool) -> Plan | None:
        """Share out the budget; None where somebody has to yield while a step is in flight.

        Args:
            is_idle: whether none is.
        """
        if not self._settle_shares(is_idle=is_idle):
            return None
        decodes, chunks = self.running.split()
        preempted = not all(map(self._blocks.extend, decodes))
        if preempted:
            if not is_idle:
                return None  # requests may end with it and leave enough blocks
            self._preempt_for(decodes)
            decodes, chunks = self.running.split()
        plan = Plan(self._budget)
        if self._limits.mixes_prefill_and_decode:
            self._plan_tokens(plan, self._without_waiting_for(decodes, chunks))
        places = 0 if preempted else self._max_running - len(decodes) - len(chunks)
        self._plan_prompts(plan, chunks, places)
        if not plan.sequences and not self._limits.mixes_prefill_and_decode:
            self._plan_tokens(plan, self.running.split()[0])
        return plan

    def plan_trial(self, suspect: Request) -> Plan:
        """Compute a suspect with nobody beside it. No step may be in flight."""
        if suspect.status is not RequestStatus.RUNNING:
            while not self._start(suspect, self._budget):
                self._preempt(self.running.victim)
        plan = Plan(self._budget)
        self._plan_tokens(plan, [suspect])
        return plan

    def _settle_shares(self, *, is_idle: bool) -> bool:
        """Start waiting requests of tenants who lack their share, in place of others' requests.

        Returns False if that has to wait for the step in flight.
        """
        while self._shares.is_contended and (request := self.waiting.peek()) is not None:
            if not self._shares.running(request.tenant) and self._join(request):
                continue
            over_share_victim = self._over_share_victim(request)
            if over_share_victim is None:
                return True
            if not is_idle:
                return False
            self._preempt(over_share_victim)
            self._join(request)
        return True

    def _join(self, request: Request) -> bool:
        """Start a waiting request ahead of planning; its tokens are planned like all others'."""
        has_place = len(self.running) < self._max_running
        return has_place and self._limits.chunked_prefill and self._start(request, self._budget)

    def _over_share_victim(self, request: Request) -> Request | None:
        """Who is to yield its place or its blocks to a waiting request, if anybody."""
        over_share_victim = None
        if len(self.running) >= self._max_running:
            over_share_victim = self.running.over_share_victim(request, lambda _: 1, 1)
            if over_share_victim is None:
                return None
        needed = self._blocks.blocks_needed(request, self._blocks.match_prefix(request))
        if self._has_room(needed):
            return over_share_victim
        richest = self.running.over_share_victim(request, self._blocks.num_held, needed)
        return richest if over_share_victim is None or richest is None else over_share_victim

    def _without_waiting_for(self, decodes: list[Request], chunks: list[Request]) -> list[Request]:
        """Leave out decodes where a tenant that gets nothing so far can have its first token.

        On a CPU every sequence makes a step longer. Those whose turn comes earlier, being more
        urgent or served less, are not left out, and for a prompt of many steps nobody is.
        """
        if not self._shares.is_contended or not chunks:
            return decodes
        first = min(chunks, key=self._turn)
        if first.num_unscheduled_tokens > self._budget:
            return decodes
        if any(request.tenant == first.tenant for request in decodes):
            return decodes
        return [request for request in decodes if self._turn(request) < self._turn(first)]

    def _preempt_for(self, decodes: list[Request]) -> None:
        """Give every decoding request a slot for its next token, or preempt it.

        No step is in flight: nobody loses a token that is being chosen.
        """
        for request in decodes:
            while request.status is RequestStatus.RUNNING and not self._blocks.extend(request):
                self._preempt(self.running.victim)

    def _preempt(self, request: Request) -> None:
        """Take a running request's blocks for others."""
        self.requeue(request)
        self.num_preemptions += 1

    def requeue(self, request: Request) -> None:
        """Take a request's blocks; it waits to have its tokens recomputed."""
        self.running.remove(request)
        self._blocks.free(request)
        request.status = RequestStatus.PREEMPTED
        request.num_preemptions += 1
        if request.needs_whole_prompt:
            request.forget_prompt()
        self.waiting.push(request)

    def _plan_tokens(self, plan: Plan, requests: Iterable[Request]) -> None:
        """Compute as many of the requests' tokens as the budget allows, in order."""
        is_contended = self._shares.is_contended
        for request in requests:
            num_tokens = min(request.num_unscheduled_tokens, plan.budget)
            if num_tokens:
                samples = plan.add(request, num_tokens, self._blocks.block_table(request))
                if is_contended:
                    self._shares.charge(request, num_tokens, samples=samples)

    def _plan_prompts(self, plan: Plan, chunks: list[Request], places: int) -> None:
        """Go on with prompts under way, and start waiting requests, in order of their turn.

        Who waits longest for blocks is not overtaken: others could take what it waits for.
        """
        if self._shares.is_contended:
            chunks.sort(key=self._turn)
        for chunk in chunks:
            while places and self._goes_before(chunk) and self._admit_next(plan):
                places -= 1
            self._plan_tokens(plan, [chunk])
        while places and self._admit_next(plan):
            places -= 1

    def _goes_before(self, chunk: Request) -> bool:
        request = self.waiting.peek()
        return request is not None and self._turn(request) < self._turn(chunk)

    def _turn(self, request: Request) -> tuple[int, float, int, int]:
        return request.priority, *self._shares.service_order(request.tenant), request.id

    def _admit_next(self, plan: Plan) -> bool:
        """Start the next waiting request, if there is one and it fits."""
        request = self.waiting.peek()
        if request is None or not plan.budget or not self._start(request, plan.budget):
            return False
        if self._limits.mixes_prefill_and_decode or request.num_unscheduled_tokens > 1:
            self._plan_tokens(plan, [request])
        return True

    def _start(self, request: Request, budget: int) -> bool:
        """Give a waiting request blocks for all its tokens, if they fit with room to grow."""
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
        """Whether so many blocks can be taken, and running requests can still grow.

        Admitting somebody only to preempt them soon would compute their prompt twice.
        """
        free = self._blocks.pool.num_free
        if not self.running:
            return needed <= free
        return needed + max(len(self.running), self._room_to_grow) <= free
