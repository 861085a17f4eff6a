"""In-flight continuous batching under one token budget.

There are no prefill and decode phases: every running request has num_computed_tokens and each
step brings it closer to num_tokens. A request that lacks one token decodes; one that lacks many
gets them computed in chunks, as far as the budget reaches.
"""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple

from glmserve.cache import BlockManager
from glmserve.config import SchedulerConfig
from glmserve.errors import ContextLengthError, InvalidRequestError, QueueFullError
from glmserve.request import Request, RequestStatus
from glmserve.scheduler.admission import WaitingQueue
from glmserve.scheduler.random import noise_key
from glmserve.step import (
    NOT_A_NUMBER,
    RunnerLimits,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
)

_GREEDY = SamplingInput()


class TokenUpdate(NamedTuple):
    """A token that a step added to a request. The request's status tells whether it is the last."""

    request: Request
    token_id: int
    """NOT_A_NUMBER when the request failed because its logits were not finite."""


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


class Scheduler:
    """Decides each step and is told what came out of it.

    Call `add` and `abort` at any time, and `schedule` -> execute -> `update` one step at a time.
    An aborted request's blocks are free at once: a step in flight may still write to them, but
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
        self._budget = min(config.max_step_tokens, limits.max_step_tokens)
        self._blocks = BlockManager(
            limits.num_blocks,
            limits.block_size,
            prefix_cache=config.prefix_cache and limits.prefix_cache,
            hash_key=hash_key,
        )
        self._waiting = WaitingQueue()
        self._running: list[Request] = []  # by rank: who loses blocks first comes last
        self._in_flight: list[tuple[Request, int, bool]] = []
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
            waiting=len(self._waiting),
            used_blocks=self._blocks.pool.num_used,
            preemptions=self._preemptions,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
        )

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            InvalidRequestError: its prompt is empty.
            ContextLengthError: it could never fit, even alone.
            QueueFullError: more requests are waiting than the queue may hold.
        """
        self._check_fits(request)
        free_places = self._max_running - len(self._running)
        if self._queue_size and len(self._waiting) >= self._queue_size + free_places:
            raise QueueFullError(
                f"the waiting queue is full (--queue-size {self._queue_size}); try again later"
            )
        self._waiting.push(request)

    def abort(self, request: Request, status: RequestStatus) -> None:
        """End a request early with the given finished status. Ending it twice is harmless."""
        if request.status.is_finished:
            return
        if request.status is RequestStatus.RUNNING:
            self._running.remove(request)
            self._blocks.free(request)
        else:
            self._waiting.discard(request)
        request.status = status

    def schedule(self) -> StepInput | None:
        """Plan the next step; None when there is nothing to compute.

        Decodes come first, so that a long prompt cannot hold up everybody's next token; what is
        left of the budget goes to prompts under way, then to waiting requests.
        """
        plan = _Plan(self._budget)
        preempted = self._make_room_for_decodes()
        if self._limits.mixes_prefill_and_decode:
            self._plan_decodes(plan)
        for request in self._running:
            if request.num_uncomputed_tokens > 1:
                self._plan_chunk(plan, request)
        if not preempted:
            self._admit(plan)
        if not plan.sequences and not self._limits.mixes_prefill_and_decode:
            self._plan_decodes(plan)
        self._in_flight = plan.in_flight
        if not plan.sequences:
            return None
        self._step_id += 1
        return StepInput(self._step_id, plan.sequences)

    def update(self, output: StepOutput) -> list[TokenUpdate]:
        """Record what the planned step computed. Aborted requests are passed over."""
        updates = []
        sampled = iter(output.token_ids)
        for request, num_tokens, samples in self._in_flight:
            token_id = next(sampled) if samples else None
            if request.status is not RequestStatus.RUNNING:
                continue
            request.num_computed_tokens += num_tokens
            self._blocks.cache_computed(request)
            if token_id is not None:
                self._append_token(request, token_id)
                updates.append(TokenUpdate(request, token_id))
        self._in_flight = []
        return updates

    def _append_token(self, request: Request, token_id: int) -> None:
        if token_id == NOT_A_NUMBER:
            self.abort(request, RequestStatus.FINISHED_ERROR)
            return
        request.token_ids.append(token_id)
        if token_id in request.params.stop_token_ids:
            self.abort(request, RequestStatus.FINISHED_STOPPED)
        elif request.num_output_tokens >= request.params.max_tokens:
            self.abort(request, RequestStatus.FINISHED_LENGTH)

    def _make_room_for_decodes(self) -> bool:
        """Give every decoding request a slot for its last token; True if somebody had to yield.

        Blocks are taken from the lowest rank first, so the highest-ranked request always advances
        and every request ends.
        """
        preempted = False
        for request in tuple(self._running):
            if request.num_uncomputed_tokens > 1 or request.status is not RequestStatus.RUNNING:
                continue
            while not self._blocks.can_append(request):
                preempted = True
                victim = self._running[-1]
                self._preempt(victim)
                if victim is request:
                    break
            else:
                self._blocks.append(request)
        return preempted

    def _preempt(self, request: Request) -> None:
        """Take a request's blocks; it waits to have its tokens recomputed."""
        self._running.remove(request)
        self._blocks.free(request)
        request.status = RequestStatus.PREEMPTED
        request.num_preemptions += 1
        self._preemptions += 1
        self._waiting.push(request)

    def _plan_decodes(self, plan: _Plan) -> None:
        for request in self._running:
            if request.num_uncomputed_tokens == 1 and plan.budget:
                plan.add(request, 1, self._blocks.block_table(request))

    def _plan_chunk(self, plan: _Plan, request: Request) -> None:
        """Compute as much of a prompt as the budget allows."""
        num_tokens = min(request.num_uncomputed_tokens, plan.budget)
        if num_tokens:
            plan.add(request, num_tokens, self._blocks.block_table(request))

    def _admit(self, plan: _Plan) -> None:
        """Start waiting requests in order, as long as blocks, places and budget last."""
        while plan.budget and len(self._running) < self._max_running:
            request = self._waiting.peek()
            if request is None or not self._try_allocate(request, plan.budget):
                return
            self._waiting.pop()
            insort(self._running, request, key=_rank)
            if self._limits.mixes_prefill_and_decode or request.num_uncomputed_tokens > 1:
                self._plan_chunk(plan, request)

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


class _Plan:
    """A step under construction, and what is left of its token budget."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.sequences: list[ScheduledSequence] = []
        self.in_flight: list[tuple[Request, int, bool]] = []

    def add(self, request: Request, num_tokens: int, block_table: bytes) -> None:
        """Schedule the next `num_tokens` tokens; sample if they complete the request's tokens."""
        start = request.num_computed_tokens
        end = start + num_tokens
        samples = end == request.num_tokens
        self.budget -= num_tokens
        self.in_flight.append((request, num_tokens, samples))
        self.sequences.append(
            ScheduledSequence(
                request.id,
                request.token_ids[start:end].tolist(),
                start,
                block_table,
                _sampling_input(request) if samples else None,
            )
        )


def _rank(request: Request) -> tuple[int, int]:
    return request.priority, request.id


def _sampling_input(request: Request) -> SamplingInput:
    """How to choose the token at position num_tokens."""
    params = request.params
    if params.is_plain_greedy:
        return _GREEDY
    penalises = params.penalises
    return SamplingInput(
        noise_key=noise_key(params.seed, request.num_tokens),
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_p=params.min_p,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        repetition_penalty=params.repetition_penalty,
        logit_bias=params.logit_bias,
        history=request.token_ids.tobytes() if penalises else b"",
        prompt_length=request.num_prompt_tokens if penalises else 0,
    )
