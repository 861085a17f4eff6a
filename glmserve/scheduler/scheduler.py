"""Continuous batching under one token budget.

There are no separate prefill and decode phases. Every running request has num_scheduled_tokens, and
each step brings it closer to num_tokens. A request with one unscheduled token decodes. A request
with many has them computed in chunks, as far as the budget reaches.

If the runner allows it, a step is planned while the one before it runs: at once, or shortly before
that one ends. The next step then has PLACEHOLDER_TOKEN_ID where the running step samples a token.
If that token ends the request, its row of the next step is computed in vain and its output is
dropped.

A runner that computes several steps at the same time, such as a pipeline of several stages, gets
them over different requests: a request whose token is being chosen is in no further step.

The rest of the budget may go to drafts: guesses of a decoding request's next tokens. The model's
own samples are compared with them, and drafts are kept up to the first wrong one. Drafts follow a
known token, so with drafts no step is planned ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from glmserve.cache import BlockManager, BlockMap, BlockPool
from glmserve.config import SchedulerConfig
from glmserve.contract.step import RunnerLimits, StepInput, StepOutput
from glmserve.errors import InvalidRequestError, QueueFullError
from glmserve.request import Request, RequestStatus
from glmserve.scheduler.checks import check_fits, set_layout
from glmserve.scheduler.crash_tracker import CrashTracker
from glmserve.scheduler.output_processor import OutputProcessor, TokenUpdate
from glmserve.scheduler.plan import Plan, Scheduled, StepSize
from glmserve.scheduler.planners import Planners
from glmserve.scheduler.shared_prefill import SharedPrefillQueue
from glmserve.scheduler.speculation import Speculation
from glmserve.scheduler.step_pace import StepPace


class SchedulerStats(NamedTuple):
    """Gauges, and counters since start."""

    running: int
    """Requests with blocks; those in the background are not counted, as in `waiting`."""
    waiting: int
    background: int
    """Requests in the background that have not ended."""
    used_blocks: int
    preemptions: int
    prefix_queries: int
    """Prompt tokens looked up in the prefix cache."""
    prefix_hits: int
    """Prompt tokens found there."""
    evictions: int
    """Blocks of the prefix cache that new tokens took."""
    drafted: int
    """Draft tokens that were scheduled."""
    accepted: int
    """Drafts that were correct; each saved a step."""


class Scheduler:
    """Plans each step and applies its output.

    Call `add` and `abort` at any time, and `schedule` -> execute -> `update` for each step, in
    order. `can_schedule` tells how far `schedule` may be ahead of `update`.
    The blocks of an aborted request are free at once. Steps in flight may still write to them, but
    their next owner writes in a later step.

    Args:
        config: the operator's options.
        limits: what the runner can execute.
        hash_key: secret that keys the prefix cache's hashes.
    """

    def __init__(self, config: SchedulerConfig, limits: RunnerLimits, *, hash_key: bytes) -> None:
        self._limits = limits
        self._queue_size = config.queue_size
        self._max_running = min(
            config.max_batch_size or limits.max_sequences,
            limits.max_sequences,
            max(limits.batch_sizes or (2**31,)),
        )
        self._budget = min(config.max_step_tokens or 2**31, limits.max_step_tokens)
        self._blocks = BlockManager(
            limits.num_blocks,
            limits.block_size,
            prefix_cache=config.prefix_cache and limits.prefix_cache,
            hash_key=hash_key,
        )
        self._pace = StepPace(config.max_step_time)
        self._in_flight: deque[list[Scheduled]] = deque()  # steps without output, oldest first
        self._planners = Planners(
            limits,
            self._blocks,
            config.tenant_weights,
            self._pace,
            self._in_flight,
            max_running=self._max_running,
            budget=self._budget,
        )
        self._shared_prefill = SharedPrefillQueue()  # followers, not queued before their prompt is
        self._unready: set[int] = set()  # ids of requests whose adapter is not loaded
        self._speculation = Speculation(
            config.speculative_tokens,
            limits.max_drafts,
            launches_ahead=limits.resolves_placeholders and not limits.waits_for_steps,
            shares_answers=config.share_drafts,
        )
        self._crash_tracker = CrashTracker()
        self._output_processor = OutputProcessor(
            self._blocks, self._speculation, self._crash_tracker, self.abort, self._queue_followers
        )
        # A draft follows a known token, so with drafts no placeholder stands for it.
        ahead = limits.resolves_placeholders and not self._speculation.is_on
        self._max_in_flight = max(limits.steps_in_flight, 2 if ahead else 1)
        self._step_id = 0

    @property
    def max_running(self) -> int:
        """Maximum number of running requests."""
        return self._max_running

    @property
    def is_needed(self) -> bool:
        """Whether a request other than those in the background runs or waits for blocks.

        One that waits for its adapter does not count: requests in the background may hold the
        places of all adapters, and must come to their end.
        """
        foreground = self._planners.foreground
        return bool(foreground.running or foreground.waiting)

    @property
    def has_work(self) -> bool:
        """Whether any request is running or waiting."""
        return any(planner.running or planner.waiting for planner in self._planners)

    @property
    def stats(self) -> SchedulerStats:
        """Current gauges and counters."""
        unfinished = self._planners.foreground.shares.num_requests
        running = len(self._planners.foreground.running)
        return SchedulerStats(
            running=running,
            waiting=unfinished - running,
            background=self._planners.background.shares.num_requests,
            used_blocks=self._blocks.pool.num_used,
            preemptions=sum(planner.num_preemptions for planner in self._planners),
            prefix_queries=sum(planner.num_prefix_queries for planner in self._planners),
            prefix_hits=sum(planner.num_prefix_hits for planner in self._planners),
            evictions=self._blocks.pool.num_evictions,
            drafted=self._speculation.num_drafted,
            accepted=self._speculation.num_accepted,
        )

    @property
    def block_pool(self) -> BlockPool:
        """The blocks, for the board and for recordings."""
        return self._blocks.pool

    def block_map(self, most: int) -> BlockMap:
        """See BlockManager.block_map."""
        return self._blocks.block_map(most)

    @property
    def can_schedule(self) -> bool:
        """Whether another step may be planned now.

        One step may be in flight, two if the runner resolves placeholders and drafts are off, or
        as many as the runner computes at the same time.
        """
        return len(self._in_flight) < self._max_in_flight

    @property
    def plans_late(self) -> bool:
        """Whether a step should be planned shortly before the one in flight ends."""
        return self._limits.waits_for_steps and bool(self._in_flight)

    @property
    def expected_seconds(self) -> float | None:
        """What the oldest step in flight should take, once it runs; None: not known."""
        return self._pace.expected(StepSize.of(self._in_flight[0]).others)

    @property
    def constrained_in_flight(self) -> list[Request]:
        """Requests that need a token mask in the oldest step in flight, in its order.

        Some may have ended since it was planned; their masks are empty.
        """
        return [
            item.request
            for item in self._in_flight[0]
            if item.samples and item.request.constraint is not None
        ]

    def add(self, *requests: Request, is_ready: bool = True) -> None:
        """Queue requests of one tenant with the same prompt. The first computes it for all.

        Args:
            is_ready: False: `release` follows when their adapter is loaded. They count as waiting.

        Raises:
            InvalidRequestError: the prompt is empty or its marks are misplaced, or there are more
                requests than the server can run and queue.
            ContextLengthError: a request would not fit, even alone.
            QueueFullError: the tenant's waiting queue has no room for them.
        """
        for request in requests:
            check_fits(request, self._limits, self._budget)
            set_layout(request, self._limits)
        if self._queue_size:
            self._check_queue(requests)
        for request in requests:
            self._planners.of(request).shares.enter(request)
        if is_ready:
            self._queue_group(list(requests))
            return
        for request in requests:
            request.status = RequestStatus.HELD
            self._unready.add(request.id)

    def release(self, requests: Sequence[Request]) -> None:
        """The adapter of these requests is loaded. Those that wait for it are queued, as one group
        if they have the same prompt."""
        ready = [request for request in requests if request.id in self._unready]
        for request in ready:
            self._unready.remove(request.id)
            request.status = RequestStatus.WAITING
        for _, group in groupby(ready, key=lambda request: id(request.prompt_ids)):
            self._queue_group(list(group))

    def abort(self, request: Request, status: RequestStatus) -> None:
        """End a request with the given finished status, unless it has already ended."""
        if request.status.is_finished:
            return
        planner = self._planners.of(request)
        if request.status is RequestStatus.RUNNING:
            planner.running.remove(request)
            self._blocks.free(request)
        elif request.status is not RequestStatus.HELD:
            planner.waiting.discard(request)
        if request.id in self._unready:
            self._unready.remove(request.id)
        else:
            self._shared_prefill.uncount(request)
        request.status = status
        planner.shares.leave(request)
        self._speculation.forget(request)
        self._crash_tracker.clear(request)
        followers = self._shared_prefill.release(request)
        if followers:
            self._queue_group(followers)

    def restart(self, *, blame: bool = True) -> list[Request]:
        """Continue with a new runner after the last one crashed. Its KV cache is lost.

        The steps in flight are dropped. Running requests return to their old places in the queue,
        and their tokens are recomputed.

        Args:
            blame: whether a request may have been the cause.

        Returns:
            Requests that the caller must abort, because steps with them crashed again and again.
        """
        computed = {item.request.id: item.request for step in self._in_flight for item in step}
        crashed = [r for r in computed.values() if r.status is RequestStatus.RUNNING]
        self._in_flight.clear()
        for request in reversed(self._planners.running):
            request.num_pending_tokens = 0
            self._planners.of(request).requeue(request)
        self._blocks.forget_contents()
        return self._crash_tracker.record_crash(crashed) if blame else []

    def forget_cache(self) -> bool:
        """Empty the prefix cache, so that no block of the KV cache has contents that are needed.

        Returns:
            False if a request holds blocks; then nothing is forgotten.
        """
        if self._blocks.pool.num_used:
            return False
        self._blocks.forget_contents()
        return True

    def schedule(self, *, may_be_background: bool = True) -> StepInput | None:
        """Plan the next step. None if there is nothing to compute, or nothing before `update`.

        Decodes come first, so that a long prompt cannot delay the next tokens of other requests.
        The rest of the budget goes to prompts, running or waiting.

        Args:
            may_be_background: whether requests in the background may have a step of their own.
        """
        if not self.can_schedule:
            return None
        plan = self._plan(may_be_background=may_be_background)
        if plan is None or not plan.sequences:
            return None
        self._speculation.add_drafts(plan, self._blocks, reserve=len(self._planners.running))
        self._in_flight.append(plan.scheduled)
        self._step_id += 1
        return StepInput(self._step_id, plan.sequences)

    def take_begun(self) -> list[Request]:
        """Requests that were given blocks since the last call, for the first time or again."""
        begun = [request for planner in self._planners for request in planner.waiting.taken]
        for planner in self._planners:
            planner.waiting.taken.clear()
        return begun

    def update(self, output: StepOutput, seconds: float | None = None) -> list[TokenUpdate]:
        """Apply the output of the oldest step in flight. Requests that have ended are skipped.

        Args:
            seconds: that the step took, after the one before it; None: not known.
        """
        items = self._in_flight.popleft()
        if seconds is not None:
            self._learn(items, seconds)
        return self._output_processor.apply(items, output)

    def _learn(self, items: list[Scheduled], seconds: float) -> None:
        """Record what a step cost."""
        size = StepSize.of(items)
        if not self._planners.record(size, seconds):
            return
        self._pace.record(size.decodes, size.others, seconds)
        if size.decodes == size.sequences:
            self._speculation.record_step(size.decodes, size.drafts, seconds)

    def _check_queue(self, requests: Sequence[Request]) -> None:
        """Check a tenant's waiting queue. Each tenant has a queue of its own size, and another in
        the background.

        Raises:
            InvalidRequestError: the requests would not fit, even into an empty server.
            QueueFullError: the queue has no room for them now.
        """
        planner, tenant = self._planners.of(requests[0]), requests[0].tenant
        num_requests = len(requests)
        if num_requests > self._queue_size + self._max_running:
            raise InvalidRequestError(
                f"{num_requests} choices are more than this server ever runs and queues; lower n",
                "n",
            )
        free_places = max(0, self._max_running - len(planner.running))
        waiting = planner.shares.num_unfinished(tenant) - planner.shares.num_running(tenant)
        if waiting + num_requests - free_places > self._queue_size:
            raise QueueFullError(
                f"the waiting queue is full (--queue-size {self._queue_size}); try again later"
            )

    def _queue_group(self, requests: list[Request]) -> None:
        """Queue the first request. The others are queued when the first has computed the prompt."""
        leader, followers = requests[0], requests[1:]
        self._queue(leader)
        if followers and self._blocks.shares_prefixes:
            self._shared_prefill.hold(leader, followers)
        else:
            for request in followers:
                self._queue(request)

    def _queue(self, request: Request) -> None:
        self._shared_prefill.uncount(request)
        request.status = RequestStatus.WAITING
        self._planners.of(request).waiting.push(request)

    def _queue_followers(self, leader: Request) -> None:
        """Queue the requests held for this one's prompt, which is now in the prefix cache."""
        if self._shared_prefill:
            for request in self._shared_prefill.release(leader):
                self._queue(request)

    def _plan(self, *, may_be_background: bool) -> Plan | None:
        suspect = self._crash_tracker.next_suspect
        if suspect is not None:
            if self._in_flight:
                return None
            if (plan := self._planners.of(suspect).plan_alone(suspect)) is not None:
                return plan
        return self._planners.plan_step(may_be_background=may_be_background)
