"""In-flight continuous batching under one token budget.

There are no prefill and decode phases: every running request has num_scheduled_tokens and each
step brings it closer to num_tokens. A request that lacks one token decodes; one that lacks many
gets them computed in chunks, as far as the budget reaches.

Where the runner allows it, a step is planned while the one before it runs. What a request gets from
the running step is then PENDING in the next one; if it turns out to end the request, its row of the
next step was computed for nothing, and is passed over.

What is then left of the budget may go to drafts: guesses of a decoding request's next tokens, which
are kept as far as they are what the model would have said. Drafts follow a token that is known, so
with them no step is planned ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from glmserve.cache import BlockManager
from glmserve.config import SchedulerConfig
from glmserve.errors import InvalidRequestError, QueueFullError
from glmserve.request import Request, RequestStatus
from glmserve.scheduler.admission import WaitingQueue
from glmserve.scheduler.checks import check_fits, lay_out
from glmserve.scheduler.choices import HeldChoices
from glmserve.scheduler.fairness import FairShares
from glmserve.scheduler.outcome import Outcomes, TokenUpdate
from glmserve.scheduler.plan import Plan, Scheduled
from glmserve.scheduler.running import RunningRequests
from glmserve.scheduler.speculation import Speculation
from glmserve.scheduler.suspects import Suspects
from glmserve.step import RunnerLimits, StepInput, StepOutput

_ROOM_TO_GROW = 0.05
"""Part of the blocks that admission leaves to running requests, and a block each at least. In
simulations it avoids a third to nine tenths of what preempted requests compute twice, and costs
one or two percent of those that run at once."""


class SchedulerStats(NamedTuple):
    """Gauges, and counters since start."""

    running: int
    waiting: int
    used_blocks: int
    preemptions: int
    prefix_queries: int
    """Prompt tokens looked up in the prefix cache."""
    prefix_hits: int
    """Prompt tokens found there."""
    drafted: int
    """Tokens that were guessed ahead."""
    accepted: int
    """Those of them that were right, and so came without a step of their own."""


class Scheduler:
    """Decides each step and is told what came out of it.

    Call `add` and `abort` at any time, and `schedule` -> execute -> `update` for each step, in
    order; see `can_schedule` for how far `schedule` may be ahead.
    An aborted request's blocks are free at once: steps in flight may still write to them, but
    whoever gets them next writes in a later step.

    Args:
        config: what the operator decided.
        limits: what the runner can execute.
        hash_key: secret that keys the prefix cache's hashes.
    """

    def __init__(self, config: SchedulerConfig, limits: RunnerLimits, *, hash_key: bytes) -> None:
        self._limits = limits
        self._queue_size = config.queue_size
        self._max_running = min(
            config.max_batch_size, limits.max_sequences, max(limits.batch_sizes or (2**31,))
        )
        self._budget = min(config.max_step_tokens or 2**31, limits.max_step_tokens)
        self._blocks = BlockManager(
            limits.num_blocks,
            limits.block_size,
            prefix_cache=config.prefix_cache and limits.prefix_cache,
            hash_key=hash_key,
        )
        self._room_to_grow = int(_ROOM_TO_GROW * limits.num_blocks)
        self._shares = FairShares(config.tenant_weights)
        self._waiting = WaitingQueue(self._shares)
        self._running = RunningRequests(self._shares)
        self._held = HeldChoices()
        self._speculation = Speculation(config.speculative_tokens, limits.max_drafts)
        self._suspects = Suspects()
        self._outcomes = Outcomes(
            self._blocks, self._speculation, self._suspects, self.abort, self._let_go
        )
        self._in_flight: deque[list[Scheduled]] = deque()  # planned and not updated, oldest first
        self._step_id = 0
        self._preemptions = 0
        self._prefix_queries = 0
        self._prefix_hits = 0

    @property
    def has_work(self) -> bool:
        """Whether any request is running or waiting."""
        return len(self._running) > 0 or len(self._waiting) > 0

    @property
    def stats(self) -> SchedulerStats:
        return SchedulerStats(
            running=len(self._running),
            waiting=len(self._waiting) + len(self._held),
            used_blocks=self._blocks.pool.num_used,
            preemptions=self._preemptions,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
            drafted=self._speculation.num_drafted,
            accepted=self._speculation.num_accepted,
        )

    @property
    def can_schedule(self) -> bool:
        """Whether a further step may be planned now: one, or two if the runner allows it."""
        ahead = self._limits.resolves_pending and not self._speculation.is_on
        return len(self._in_flight) <= ahead

    @property
    def constrained_in_flight(self) -> list[Request]:
        """Requests whose constraint has a say in the oldest step in flight, in its order.

        Some may have ended since it was planned; their masks are empty.
        """
        return [
            item.request
            for item in self._in_flight[0]
            if item.samples and item.request.constraint is not None
        ]

    def add(self, *requests: Request) -> None:
        """Queue requests of one tenant with the same prompt; the first computes it for all.

        Raises:
            InvalidRequestError: the prompt is empty or not as the model wants it, or the requests
                are more than can ever run.
            ContextLengthError: it could never fit, even alone.
            QueueFullError: more requests of this tenant are waiting than the queue may hold.
        """
        for request in requests:
            check_fits(request, self._limits, self._budget)
            lay_out(request, self._limits)
        if self._queue_size:
            self._check_queue(requests[0].tenant, len(requests))
        for request in requests:
            self._shares.enter(request)
        self._queue_group(list(requests))

    def abort(self, request: Request, status: RequestStatus) -> None:
        """End a request early with the given finished status. Ending it twice is harmless."""
        if request.status.is_finished:
            return
        if request.status is RequestStatus.RUNNING:
            self._running.remove(request)
            self._blocks.free(request)
        elif request.status is not RequestStatus.HELD:
            self._waiting.discard(request)
        self._held.leave(request)
        request.status = status
        self._shares.leave(request)
        self._speculation.forget(request)
        self._suspects.clear(request)
        others = self._held.release(request)
        if others:
            self._queue_group(others)

    def restart(self) -> list[Request]:
        """Go on with a new runner: the one before has crashed, and its cache is lost.

        The steps in flight are forgotten, and whoever was running waits in its old place to have
        its tokens recomputed.

        Returns:
            Requests that are to be aborted: steps with them crash time and again (suspects.py).
        """
        computed = {item.request.id: item.request for step in self._in_flight for item in step}
        crashed = [r for r in computed.values() if r.status is RequestStatus.RUNNING]
        self._in_flight.clear()
        for request in reversed(list(self._running)):
            request.num_pending_tokens = 0
            self._requeue(request)
        self._blocks.forget_contents()
        return self._suspects.blame(crashed)

    def schedule(self) -> StepInput | None:
        """Plan the next step; None when there is nothing to compute, or nothing before `update`.

        Decodes come first, so that a long prompt cannot hold up everybody's next token; what is
        left of the budget goes to prompts, under way or waiting.
        """
        if not self.can_schedule:
            return None
        suspect = self._suspects.next
        plan = self._plan_step() if suspect is None else self._plan_trial(suspect)
        if plan is None or not plan.sequences:
            return None
        self._speculation.add_drafts(plan, self._blocks, reserve=len(self._running))
        self._in_flight.append(plan.in_flight)
        self._step_id += 1
        return StepInput(self._step_id, plan.sequences)

    def update(self, output: StepOutput) -> list[TokenUpdate]:
        """Record what the oldest step in flight computed. Requests that ended are passed over."""
        return self._outcomes.apply(self._in_flight.popleft(), output)

    def _check_queue(self, tenant: str, num_requests: int) -> None:
        """The bound is each tenant's own: nobody finds the queue full of another's requests."""
        if num_requests > self._queue_size + self._max_running:
            raise InvalidRequestError(
                f"{num_requests} choices are more than this server ever runs and queues; lower n",
                "n",
            )
        free_places = max(0, self._max_running - len(self._running))
        waiting = self._shares.unfinished(tenant) - self._shares.running(tenant)
        if waiting + num_requests - free_places > self._queue_size:
            raise QueueFullError(
                f"the waiting queue is full (--queue-size {self._queue_size}); try again later"
            )

    def _queue_group(self, requests: list[Request]) -> None:
        """Let the first wait for its place, and the others for the first's prompt."""
        leader, others = requests[0], requests[1:]
        self._queue(leader)
        if others and self._blocks.shares_prefixes:
            self._held.hold(leader, others)
        else:
            for request in others:
                self._queue(request)

    def _queue(self, request: Request) -> None:
        self._held.leave(request)
        request.status = RequestStatus.WAITING
        self._waiting.push(request)

    def _let_go(self, leader: Request) -> None:
        """Queue those who waited for this request's prompt: they will find it in the cache."""
        if self._held:
            for request in self._held.release(leader):
                self._queue(request)

    def _plan_step(self) -> Plan | None:
        """Share out the budget; None where somebody has to yield while a step is in flight."""
        if not self._settle_shares():
            return None
        decodes, chunks = self._running.split()
        preempted = not all(map(self._blocks.extend, decodes))
        if preempted:
            if self._in_flight:
                return None  # requests may end with it and leave enough blocks
            self._preempt_for(decodes)
            decodes, chunks = self._running.split()
        plan = Plan(self._budget)
        if self._limits.mixes_prefill_and_decode:
            self._plan_tokens(plan, self._without_waiting_for(decodes, chunks))
        places = 0 if preempted else self._max_running - len(decodes) - len(chunks)
        self._plan_prompts(plan, chunks, places)
        if not plan.sequences and not self._limits.mixes_prefill_and_decode:
            self._plan_tokens(plan, self._running.split()[0])
        return plan

    def _plan_trial(self, suspect: Request) -> Plan | None:
        """Compute a suspect with nobody beside it, or in a step before or behind it."""
        if self._in_flight:
            return None
        if suspect.status is not RequestStatus.RUNNING:
            while not self._start(suspect, self._budget):
                self._preempt(self._running.victim)
        plan = Plan(self._budget)
        self._plan_tokens(plan, [suspect])
        return plan

    def _settle_shares(self) -> bool:
        """Start waiting requests of tenants who lack their share, in place of others' requests.

        Returns False if that has to wait for the step in flight.
        """
        while self._shares.is_contended and (request := self._waiting.peek()) is not None:
            if not self._shares.running(request.tenant) and self._join(request):
                continue
            debtor = self._debtor(request)
            if debtor is None:
                return True
            if self._in_flight:
                return False
            self._preempt(debtor)
            self._join(request)
        return True

    def _join(self, request: Request) -> bool:
        """Start a waiting request ahead of planning; its tokens are planned like all others'."""
        has_place = len(self._running) < self._max_running
        return has_place and self._limits.chunked_prefill and self._start(request, self._budget)

    def _debtor(self, request: Request) -> Request | None:
        """Who is to yield its place or its blocks to a waiting request, if anybody."""
        debtor = None
        if len(self._running) >= self._max_running:
            debtor = self._running.debtor(request, lambda _: 1, 1)
            if debtor is None:
                return None
        needed = self._blocks.blocks_needed(request, self._blocks.match_prefix(request))
        if self._has_room(needed):
            return debtor
        richest = self._running.debtor(request, self._blocks.num_held, needed)
        return richest if debtor is None or richest is None else debtor

    def _without_waiting_for(self, decodes: list[Request], chunks: list[Request]) -> list[Request]:
        """Leave out decodes where a tenant that gets nothing so far can have its first token.

        On a CPU every sequence makes a step longer. Those who were served less are not left out,
        and for a prompt of many steps nobody is.
        """
        if not self._shares.is_contended:
            return decodes
        decoding = {request.tenant for request in decodes}
        newcomers = [
            self._shares.turn(request.tenant)
            for request in chunks
            if request.tenant not in decoding and request.num_unscheduled_tokens <= self._budget
        ]
        if not newcomers:
            return decodes
        return [r for r in decodes if self._shares.turn(r.tenant) < min(newcomers)]

    def _preempt_for(self, decodes: list[Request]) -> None:
        """Give every decoding request a slot for its next token, or preempt it.

        No step is in flight: nobody loses a token that is being chosen.
        """
        for request in decodes:
            while request.status is RequestStatus.RUNNING and not self._blocks.extend(request):
                self._preempt(self._running.victim)

    def _preempt(self, request: Request) -> None:
        """Take a running request's blocks for others."""
        self._requeue(request)
        self._preemptions += 1

    def _requeue(self, request: Request) -> None:
        """Take a request's blocks; it waits to have its tokens recomputed."""
        self._running.remove(request)
        self._blocks.free(request)
        request.status = RequestStatus.PREEMPTED
        request.num_preemptions += 1
        if request.needs_whole_prompt:
            request.forget_prompt()
        self._waiting.push(request)

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
        request = self._waiting.peek()
        return request is not None and self._turn(request) < self._turn(chunk)

    def _turn(self, request: Request) -> tuple[int, float, int, int]:
        return request.priority, *self._shares.turn(request.tenant), request.id

    def _admit_next(self, plan: Plan) -> bool:
        """Start the next waiting request, if there is one and it fits."""
        request = self._waiting.peek()
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
        self._waiting.take(request)
        self._running.add(request)
        if not request.num_preemptions:
            request.num_cached_tokens = num_cached
            self._prefix_queries += request.num_prompt_tokens
            self._prefix_hits += num_cached
        return True

    def _has_room(self, needed: int) -> bool:
        """Whether so many blocks can be taken, and running requests can still grow.

        Admitting somebody only to preempt them soon would compute their prompt twice.
        """
        free = self._blocks.pool.num_free
        if not self._running:
            return needed <= free
        return needed + max(len(self._running), self._room_to_grow) <= free
