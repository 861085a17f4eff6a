"""In-flight continuous batching under one token budget.

There are no prefill and decode phases: every running request has num_scheduled_tokens and each
step brings it closer to num_tokens. A request that lacks one token decodes; one that lacks many
gets them computed in chunks, as far as the budget reaches.

Where the runner allows it, a step is planned while the one before it runs. The next step then has
PLACEHOLDER_TOKEN_ID where the running step chooses a token. If that token ends the request, its row
of the next step is computed for nothing and its output is dropped.

What is then left of the budget may go to drafts: guesses of a decoding request's next tokens, which
are kept as far as they are what the model would have said. Drafts follow a token that is known, so
with them no step is planned ahead.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from glmserve.cache import BlockManager
from glmserve.config import SchedulerConfig
from glmserve.contract.step import RunnerLimits, StepInput, StepOutput
from glmserve.errors import InvalidRequestError, QueueFullError
from glmserve.request import Request, RequestStatus
from glmserve.scheduler.checks import check_fits, lay_out
from glmserve.scheduler.crash_tracker import CrashTracker
from glmserve.scheduler.fairness import FairShares
from glmserve.scheduler.output_processor import OutputProcessor, TokenUpdate
from glmserve.scheduler.plan import Plan, Scheduled
from glmserve.scheduler.planner import Planner
from glmserve.scheduler.shared_prefill import SharedPrefillQueue
from glmserve.scheduler.speculation import Speculation


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
        self._shares = FairShares(config.tenant_weights)
        self._planner = Planner(
            limits,
            self._blocks,
            self._shares,
            max_running=self._max_running,
            budget=self._budget,
        )
        self._waiting = self._planner.waiting
        self._running = self._planner.running
        self._held = SharedPrefillQueue()
        self._speculation = Speculation(config.speculative_tokens, limits.max_drafts)
        self._suspects = CrashTracker()
        self._outcomes = OutputProcessor(
            self._blocks, self._speculation, self._suspects, self.abort, self._let_go
        )
        self._in_flight: deque[list[Scheduled]] = deque()  # planned and not updated, oldest first
        self._step_id = 0

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
            preemptions=self._planner.num_preemptions,
            prefix_queries=self._planner.num_prefix_queries,
            prefix_hits=self._planner.num_prefix_hits,
            drafted=self._speculation.num_drafted,
            accepted=self._speculation.num_accepted,
        )

    @property
    def can_schedule(self) -> bool:
        """Whether a further step may be planned now: one, or two if the runner allows it."""
        ahead = self._limits.resolves_placeholders and not self._speculation.is_on
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
            self._planner.requeue(request)
        self._blocks.forget_contents()
        return self._suspects.record_crash(crashed)

    def schedule(self) -> StepInput | None:
        """Plan the next step; None when there is nothing to compute, or nothing before `update`.

        Decodes come first, so that a long prompt cannot hold up everybody's next token; what is
        left of the budget goes to prompts, under way or waiting.
        """
        if not self.can_schedule:
            return None
        plan = self._plan()
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

    def _plan(self) -> Plan | None:
        suspect = self._suspects.next
        if suspect is None:
            return self._planner.plan_step(is_idle=not self._in_flight)
        return None if self._in_flight else self._planner.plan_trial(suspect)
