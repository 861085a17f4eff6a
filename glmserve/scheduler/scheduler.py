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

import math
from array import array
from bisect import insort
from collections import deque
from collections.abc import Iterable
from itertools import islice, repeat
from typing import NamedTuple

from glmserve.cache import BlockManager
from glmserve.config import SchedulerConfig
from glmserve.errors import ContextLengthError, InvalidRequestError, QueueFullError
from glmserve.request import Request, RequestStatus
from glmserve.scheduler.admission import WaitingQueue
from glmserve.scheduler.plan import Plan, Scheduled
from glmserve.scheduler.speculation import Speculation
from glmserve.scheduler.suspects import Suspects
from glmserve.step import NOT_A_NUMBER, Logprobs, RunnerLimits, StepInput, StepOutput


class TokenUpdate(NamedTuple):
    """A token that a step added to a request."""

    request: Request
    token_id: int | None
    """NOT_A_NUMBER when the request failed because the model's numbers were not finite; None when
    it is over without a token, as only its prompt was wanted."""
    logprobs: Logprobs | None = None
    is_last: bool = False
    """Whether the request is over."""


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
        self._speculation = Speculation(config.speculative_tokens, limits.max_drafts)
        self._suspects = Suspects()
        self._waiting = WaitingQueue()
        self._running: list[Request] = []  # by rank: who loses blocks first comes last
        self._held: dict[int, list[Request]] = {}  # by the id of who computes their prompt
        self._num_held = 0
        self._in_flight: deque[list[Scheduled]] = deque()  # planned and not updated, oldest first
        self._step_id = 0
        self._preemptions = 0
        self._prefix_queries = 0
        self._prefix_hits = 0

    @property
    def has_work(self) -> bool:
        """Whether any request is running or waiting."""
        return bool(self._running) or len(self._waiting) > 0

    @property
    def stats(self) -> SchedulerStats:
        return SchedulerStats(
            running=len(self._running),
            waiting=self._num_waiting,
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
        """Queue requests with one and the same prompt; the first computes it for all of them.

        Raises:
            InvalidRequestError: the prompt is empty or not as the model wants it, or the requests
                are more than can ever run.
            ContextLengthError: it could never fit, even alone.
            QueueFullError: more requests are waiting than the queue may hold.
        """
        for request in requests:
            self._check_fits(request)
            self._lay_out(request)
        if self._queue_size and len(requests) > self._queue_size + self._max_running:
            raise InvalidRequestError(
                f"{len(requests)} choices are more than this server ever runs and queues; lower n",
                "n",
            )
        free_places = max(0, self._max_running - len(self._running))
        beyond = self._num_waiting + len(requests) - free_places
        if self._queue_size and beyond > self._queue_size:
            raise QueueFullError(
                f"the waiting queue is full (--queue-size {self._queue_size}); try again later"
            )
        self._queue_group(list(requests))

    def abort(self, request: Request, status: RequestStatus) -> None:
        """End a request early with the given finished status. Ending it twice is harmless."""
        if request.status.is_finished:
            return
        if request.status is RequestStatus.RUNNING:
            self._running.remove(request)
            self._blocks.free(request)
        elif request.status is RequestStatus.HELD:
            self._num_held -= 1
        else:
            self._waiting.discard(request)
        request.status = status
        self._speculation.forget(request)
        self._suspects.clear(request)
        others = [r for r in self._held.pop(request.id, ()) if not r.status.is_finished]
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
        for request in reversed(self._running.copy()):
            request.num_pending_tokens = 0
            self._requeue(request)
        self._blocks.forget_contents()
        return self._suspects.blame(crashed)

    @property
    def _num_waiting(self) -> int:
        return len(self._waiting) + self._num_held

    def _queue_group(self, requests: list[Request]) -> None:
        """Let the first wait for its place, and the others for the first's prompt."""
        leader, others = requests[0], requests[1:]
        self._queue(leader)
        if others and self._blocks.shares_prefixes:
            self._held[leader.id] = others
            for request in others:
                self._num_held += request.status is not RequestStatus.HELD
                request.status = RequestStatus.HELD
        else:
            for request in others:
                self._queue(request)

    def _queue(self, request: Request) -> None:
        self._num_held -= request.status is RequestStatus.HELD
        request.status = RequestStatus.WAITING
        self._waiting.push(request)

    def schedule(self) -> StepInput | None:
        """Plan the next step; None when there is nothing to compute, or nothing before `update`.

        Decodes come first, so that a long prompt cannot hold up everybody's next token; what is
        left of the budget goes to prompts under way, then to waiting requests.
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

    def _plan_step(self) -> Plan | None:
        """Share out the budget; None where blocks run out while a step is in flight."""
        decodes, chunks = self._split_running()
        preempted = not all(map(self._blocks.extend, decodes))
        if preempted:
            if self._in_flight:
                return None  # requests may end with it and leave enough blocks
            self._preempt_for(decodes)
            decodes, chunks = self._split_running()
        plan = Plan(self._budget)
        if self._limits.mixes_prefill_and_decode:
            self._plan_tokens(plan, decodes)
        self._plan_tokens(plan, chunks)
        if not preempted:
            self._admit(plan, self._max_running - len(decodes) - len(chunks))
        if not plan.sequences and not self._limits.mixes_prefill_and_decode:
            self._plan_tokens(plan, self._split_running()[0])
        return plan

    def _plan_trial(self, suspect: Request) -> Plan | None:
        """Compute a suspect with nobody beside it, or in a step before or behind it."""
        if self._in_flight:
            return None
        if suspect.status is not RequestStatus.RUNNING:
            while not self._try_allocate(suspect, self._budget):
                self._preempt(self._running[-1])
            self._waiting.take(suspect)
            insort(self._running, suspect, key=_rank)
        plan = Plan(self._budget)
        self._plan_tokens(plan, [suspect])
        return plan

    def update(self, output: StepOutput) -> list[TokenUpdate]:
        """Record what the oldest step in flight computed. Requests that ended are passed over."""
        updates = []
        sampled = zip(output.token_ids, output.logprobs or repeat(None), strict=False)
        scores, pooled = iter(output.scores), iter(output.pooled)
        for request, num_tokens, samples, is_scored, is_pooled, drafts in self._in_flight.popleft():
            token = next(sampled) if samples else None
            behind = list(islice(sampled, len(drafts))) if drafts else []
            score = next(scores) if is_scored else None
            sums = next(pooled) if is_pooled else None
            if request.status is not RequestStatus.RUNNING:
                continue
            if not _are_numbers(score, sums):
                self.abort(request, RequestStatus.FINISHED_ERROR)
                updates.append(TokenUpdate(request, NOT_A_NUMBER, is_last=True))
                continue
            if drafts and token is not None and token[0] == NOT_A_NUMBER:
                self._choose_again(request, num_tokens, drafts)
                continue
            request.num_computed_tokens += num_tokens
            if score is not None:
                request.prompt_logprobs += score
            if sums is not None:
                _add_floats(request.pooled, sums)
            self._blocks.cache_computed(request)
            if self._held and request.id in self._held and request.is_prompt_computed:
                self._let_go(request)
            if token is not None:
                request.num_pending_tokens -= 1
                self._append_token(request, token[0])
                is_last = request.status is not RequestStatus.RUNNING
                updates.append(TokenUpdate(request, *token, is_last))
                if drafts:
                    updates += self._keep_foreseen(request, drafts, behind)
            elif request.is_prompt_computed and not request.params.max_tokens:
                self.abort(request, RequestStatus.FINISHED_LENGTH)
                updates.append(TokenUpdate(request, None, is_last=True))
        return updates

    def _let_go(self, leader: Request) -> None:
        """Queue those who waited for this request's prompt: they will find it in the cache."""
        for request in self._held.pop(leader.id):
            if not request.status.is_finished:
                self._queue(request)

    def _choose_again(self, request: Request, num_tokens: int, drafts: tuple[int, ...]) -> None:
        """Let the next step choose without drafts: one may have spoilt the numbers before it.

        What is masked in attention counts 0 times, and that is no number if the value is none.
        """
        request.num_pending_tokens -= 1
        request.num_scheduled_tokens -= num_tokens
        self._speculation.learn(request, len(drafts), 0)
        self._blocks.trim(request)

    def _keep_foreseen(
        self, request: Request, drafts: tuple[int, ...], tokens: list[tuple[int, Logprobs | None]]
    ) -> list[TokenUpdate]:
        """Add the tokens that stand behind right drafts.

        Args:
            tokens: what was chosen behind each draft; before the first, it is the request's last.
        """
        updates: list[TokenUpdate] = []
        for draft, (token_id, logprobs) in zip(drafts, tokens, strict=True):
            if request.status is not RequestStatus.RUNNING or request.token_ids[-1] != draft:
                break
            request.num_computed_tokens += 1
            request.num_scheduled_tokens += 1
            self._blocks.cache_computed(request)
            self._append_token(request, token_id)
            is_last = request.status is not RequestStatus.RUNNING
            updates.append(TokenUpdate(request, token_id, logprobs, is_last))
        self._speculation.learn(request, len(drafts), len(updates))
        if request.status is RequestStatus.RUNNING:
            self._blocks.trim(request)
        return updates

    def _append_token(self, request: Request, token_id: int) -> None:
        if token_id == NOT_A_NUMBER:
            self.abort(request, RequestStatus.FINISHED_ERROR)
            return
        status = request.append(token_id)
        if request.num_crashes:
            self._suspects.clear(request)
        if status is not None:
            self.abort(request, status)

    def _split_running(self) -> tuple[list[Request], list[Request]]:
        """Running requests that lack one token, and those that lack more, by rank."""
        decodes, chunks = [], []
        for request in self._running:
            num_tokens = request.num_unscheduled_tokens
            if num_tokens == 1:
                decodes.append(request)
            elif num_tokens:
                chunks.append(request)
        return decodes, chunks

    def _preempt_for(self, decodes: list[Request]) -> None:
        """Give every decoding request a slot for its next token, or preempt it.

        Blocks are taken from the lowest rank first, so the highest-ranked request always advances
        and every request ends. No step is in flight: nobody loses a token that is being chosen.
        """
        for request in decodes:
            while request.status is RequestStatus.RUNNING and not self._blocks.extend(request):
                self._preempt(self._running[-1])

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
        for request in requests:
            num_tokens = min(request.num_unscheduled_tokens, plan.budget)
            if num_tokens:
                plan.add(request, num_tokens, self._blocks.block_table(request))

    def _admit(self, plan: Plan, places: int) -> None:
        """Start waiting requests in order, as long as blocks, places and budget last."""
        while plan.budget and places:
            request = self._waiting.peek()
            if request is None or not self._try_allocate(request, plan.budget):
                return
            places -= 1
            self._waiting.pop()
            insort(self._running, request, key=_rank)
            if self._limits.mixes_prefill_and_decode or request.num_unscheduled_tokens > 1:
                self._plan_tokens(plan, [request])

    def _try_allocate(self, request: Request, budget: int) -> bool:
        """Give a waiting request blocks for all its tokens, if they fit with room to grow.

        One free block per running request is left over: admitting somebody only to preempt them in
        the next step would compute their prompt twice.
        """
        match = self._blocks.match_prefix(request)
        needed = self._blocks.blocks_needed(request, match)
        if needed + len(self._running) > self._blocks.pool.num_free:
            return False
        num_cached = len(match.blocks) * self._limits.block_size
        if not self._limits.chunked_prefill and request.num_tokens - num_cached > budget:
            return False
        self._blocks.allocate(request, match)
        if not request.num_preemptions:
            request.num_cached_tokens = num_cached
            self._prefix_queries += request.num_prompt_tokens
            self._prefix_hits += num_cached
        return True

    def _check_fits(self, request: Request) -> None:
        if not request.prompt_ids:
            raise InvalidRequestError("the prompt is empty; send at least one token", "prompt")
        longest = min(self._limits.max_context, self._limits.token_capacity)
        if not self._limits.chunked_prefill:
            longest = min(longest, self._budget)  # a preempted request is recomputed in one step
        if request.max_total_tokens > longest:
            raise ContextLengthError(
                f"this request needs {request.num_prompt_tokens} prompt tokens and up to "
                f"{request.params.max_tokens} new ones, but at most {longest} tokens fit; shorten "
                "the prompt or lower max_tokens",
                "max_tokens" if request.num_prompt_tokens < longest else "prompt",
            )

    def _lay_out(self, request: Request) -> None:
        """Find out the layout of the prompt, if the model's prompts have one."""
        marks = self._limits.prompt_marks
        if marks is None:
            return
        request.layout = marks.layout(request.prompt_ids)
        if request.params.prompt_logprobs is not None:
            raise InvalidRequestError(
                "this model reads a prompt in both directions, so the prompt's tokens have no "
                "log-probabilities; leave out echo or logprobs",
                "logprobs",
            )


def _rank(request: Request) -> tuple[int, int]:
    return request.priority, request.id


def _are_numbers(score: list[Logprobs] | None, sums: bytes | None) -> bool:
    """Whether what a step reports of a prompt came from finite numbers."""
    if score is not None and any(math.isnan(item.logprob) for item in score):
        return False
    return sums is None or all(map(math.isfinite, memoryview(sums).cast("f")))


def _add_floats(total: array[float], addend: bytes) -> None:
    """Add packed float32 to `total`, which is empty or of the same length."""
    values = memoryview(addend).cast("f")
    if not total:
        total.extend(values)
    else:
        for i, value in enumerate(values):
            total[i] += value
