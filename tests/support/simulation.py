"""A scheduler and a fake runner under arrivals, aborts and crashes, without clock or threads."""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from unittest import mock

import msgspec

from glmserve.config import SchedulerConfig
from glmserve.contract.step import RunnerLimits, ScheduledSequence, StepInput, unpack_int32
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.scheduler import Scheduler, TokenUpdate, planner
from glmserve.scheduler.drafter import AdaptiveDrafter
from glmserve.scheduler.random import noise_key
from support.fakes import FakeRunner, next_token

_TICK_LIMIT = 5000
_ROOMY = RunnerLimits(
    num_blocks=100, block_size=4, max_sequences=1, max_step_tokens=64, max_context=64
)


@dataclass
class Arrival:
    """One or more requests with the same prompt."""

    tick: int
    prompt: list[int]
    params: SamplingParams
    constraint_length: int | None = None
    """Tokens after which the constraint ends the request; None: there is none."""
    priority: int = 0
    tenant: str = ""
    abort_after: int | None = None
    """Ticks after which the first is aborted."""
    continuations: int = 1
    scored: bool = False
    """Whether the first wants the prompt's log-probabilities."""
    in_background: bool = False


class Remainders:
    """A constraint whose next tokens depend on all before it, and which ends after `length`."""

    def __init__(self, length: int) -> None:
        self.accepted: list[int] = []
        self._length = length

    @property
    def is_finished(self) -> bool:
        return len(self.accepted) >= self._length

    def allowed(self) -> bytes:
        assert not self.is_finished
        ids = range(sum(self.accepted) % 3, 128, 3)
        return sum(1 << i for i in ids).to_bytes(16, "little")

    def accept(self, token_id: int) -> None:
        assert self.allowed()[token_id // 8] >> token_id % 8 & 1
        self.accepted.append(token_id)


class SamplingRunner(FakeRunner):
    """A FakeRunner that heeds random numbers and banned tokens."""

    def _choose(self, sequence: ScheduledSequence) -> int:
        token = super()._choose(sequence)
        sampling = sequence.sampling
        assert sampling is not None
        return _drawn(token, sampling.noise_key, sampling.banned)


def _drawn(token: int, key: int, banned: Collection[int]) -> int:
    """What randomness and banned tokens make of the model's token."""
    if key:
        token = next_token([token, key % 1009])
    while token in banned:
        token += 1
    return token


def oracle(error_every: int) -> Callable[[AdaptiveDrafter, Request, int], list[int]]:
    """Drafts what the SamplingRunner will say, but every `error_every`-th guess is wrong."""

    def guess(_: AdaptiveDrafter, request: Request, room: int) -> list[int]:
        params, tokens = request.params, request.token_ids.tolist()
        for position in range(request.num_tokens, request.num_tokens + room):
            key = 0 if params.has_default_sampling else noise_key(params.seed, position)
            early = position - request.num_prompt_tokens < params.min_tokens
            token = _drawn(next_token(tokens), key, params.stop_token_ids if early else ())
            tokens.append(token + (position % error_every == 0))
        return tokens[request.num_tokens :]

    return guess


def requests_of(arrival: Arrival, first_id: int) -> list[Request]:
    """The arrival's continuations of one prompt; the first tells about the prompt if asked to."""
    first = arrival.params
    if arrival.scored:
        first = msgspec.structs.replace(first, prompt_logprobs=1)
    length = arrival.constraint_length
    return [
        Request(
            first_id + i,
            arrival.prompt,
            arrival.params if i else first,
            arrival.priority,
            constraint=None if length is None else Remainders(length),
            tenant=arrival.tenant,
            in_background=arrival.in_background,
        )
        for i in range(arrival.continuations)
    ]


def run_many_in_background(scheduler: Scheduler) -> None:
    """As if it had been learned that a step may hold as many as can run."""
    scheduler._planners._background_pace.places = scheduler.max_running


class Simulation:
    """Runs all arrivals to their end, in ticks of one step; checks every step.

    Args:
        crashes: ticks in which the runner crashes, before or after it has executed a step.
        poison: what to find in a sequence's tokens for the runner to crash.
        times: seconds that steps take, again and again; empty: they are not measured.
    """

    def __init__(
        self,
        limits: RunnerLimits,
        config: SchedulerConfig,
        arrivals: list[Arrival],
        crashes: Collection[int] = (),
        poison: int | None = None,
        times: Sequence[float] = (),
    ) -> None:
        self.num_restarts = 0
        self._crashes = crashes
        self._poison = poison
        self._times = times
        self.scheduler = Scheduler(config, limits, hash_key=b"key")
        run_many_in_background(self.scheduler)
        self.runner = SamplingRunner(limits)
        self.requests: list[tuple[Request, Arrival]] = []
        self.updates: defaultdict[int, list[TokenUpdate]] = defaultdict(list)  # by request id
        self._to_come = deque(sorted(arrivals, key=lambda a: a.tick))
        self._to_abort: list[tuple[int, Request]] = []
        self._submitted: deque[StepInput] = deque()

    def run(self) -> None:
        """To the end. Where steps overlap, even two decodes are shared out between them."""
        with mock.patch.object(planner, "_LEAST_TURN", 1):
            self._run()

    def _run(self) -> None:
        tick = 0
        while self._to_come or self.scheduler.has_work or self._submitted:
            self._submit()
            self._arrive(tick)
            self._abort(tick, remainder=0)
            self._submit()
            if tick in self._crashes and tick % 2:
                self._restart()
            else:
                self._execute(tick)
            tick += 1
            assert tick < _TICK_LIMIT, "somebody starves"

    def _arrive(self, tick: int) -> None:
        while self._to_come and self._to_come[0].tick <= tick:
            arrival = self._to_come.popleft()
            group = requests_of(arrival, len(self.requests))
            self.scheduler.add(*group)
            self.requests += [(request, arrival) for request in group]
            if arrival.abort_after is not None:
                self._to_abort.append((tick + arrival.abort_after, group[0]))

    def _abort(self, tick: int, remainder: int) -> None:
        for due, request in self._to_abort:
            if due <= tick and request.id % 2 == remainder:
                self.scheduler.abort(request, RequestStatus.FINISHED_ABORTED)

    def _submit(self) -> None:
        """As many steps as may be planned."""
        while (step := self.scheduler.schedule()) is not None:
            _check_nothing_shared_while_written(step, self.runner.info.limits.block_size)
            self._submitted.append(step)

    def _execute(self, tick: int) -> None:
        """The oldest step. Some requests are aborted before its output is there."""
        if not self._submitted:
            assert not self.scheduler.has_work, "work is left but nothing was planned"
            return
        constrained = self.scheduler.constrained_in_flight
        masks = [
            b"" if r.status.is_finished or r.constraint is None else r.constraint.allowed()
            for r in constrained
        ]
        step = self._submitted.popleft()
        if self._is_poisoned(step):
            self._restart()
            return
        output = self.runner.execute(step, lambda: masks)
        self._abort(tick, remainder=1)
        if tick in self._crashes:
            self._restart()
            return
        seconds = self._times[tick % len(self._times)] if self._times else None
        for update in self.scheduler.update(output, seconds):
            self.updates[update.request.id].append(update)

    def _is_poisoned(self, step: StepInput) -> bool:
        return self._poison is not None and any(
            self._poison in sequence.token_ids for sequence in step.sequences
        )

    def _restart(self) -> None:
        """The runner is gone with its cache and with the steps under way."""
        self.num_restarts += 1
        self._submitted.clear()
        self.runner = SamplingRunner(self.runner.info.limits)
        for request in self.scheduler.restart():
            self.scheduler.abort(request, RequestStatus.FINISHED_ERROR)


def _check_nothing_shared_while_written(step: StepInput, block_size: int) -> None:
    """A block that is written in this step is in no other sequence's table."""
    owners: dict[int, int] = {}
    for sequence in step.sequences:
        for block in unpack_int32(sequence.block_table):
            owners[block] = owners.get(block, 0) + 1
    for sequence in step.sequences:
        table = unpack_int32(sequence.block_table)
        end = sequence.start + len(sequence.token_ids)
        for index in range(sequence.start // block_size, -(-end // block_size)):
            assert owners[table[index]] == 1


def output_alone(arrival: Arrival) -> tuple[list[int], RequestStatus]:
    """What a request says, and how it ends, with nobody else there and one step at a time."""
    alone = Arrival(0, arrival.prompt, arrival.params, arrival.constraint_length)
    simulation = Simulation(_ROOMY, SchedulerConfig(), [alone])
    simulation.run()
    request = simulation.requests[0][0]
    return output_of(request), request.status


def output_of(request: Request) -> list[int]:
    output: array[int] = request.token_ids[request.num_prompt_tokens :]
    return output.tolist()
