"""Computes a recording again, and compares each token."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from glmserve.config import SchedulerConfig
from glmserve.contract.step import (
    INVALID_TOKEN_ID,
    PLACEHOLDER_TOKEN_ID,
    RunnerLimits,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
    TokenMasks,
)
from glmserve.errors import StartupError
from glmserve.executor import Executor
from glmserve.request import Request
from glmserve.scheduler import Scheduler
from glmserve.trace.events import Arrival, End, Event, Loss


class Difference(NamedTuple):
    """A token that was another one when it was recorded."""

    request_id: int
    position: int
    """In prompt and output together, from 0."""
    recorded: int
    """INVALID_TOKEN_ID, or a token id."""
    replayed: int
    step_id: int
    """As recorded."""
    row: int
    num_rows: int


@dataclass
class Comparison:
    """What came of a replay."""

    num_steps: int = 0
    num_tokens: int = 0
    num_different: int = 0
    first: Difference | None = None
    request_ids: set[int] = field(default_factory=set)
    """Requests with a difference."""
    largest_change: float = 0.0
    """Of log-probabilities, where they were asked for."""

    def add(self, difference: Difference) -> None:
        self.first = self.first or difference
        self.num_different += 1
        self.request_ids.add(difference.request_id)


async def replay_steps(executor: Executor, events: Iterable[Event]) -> Comparison:
    """Let a started runner compute the steps as they were recorded.

    Each step goes on from the recorded tokens, so one difference does not cause the next.

    Raises:
        EngineDeadError: the runner has died.
    """
    found = Comparison()
    async for step, recorded, replayed in _pairs(executor, events):
        found.num_steps += 1
        _compare(found, step, recorded, replayed)
    return found


async def replay_alone(
    executor: Executor, limits: RunnerLimits, events: Iterable[Event]
) -> AsyncIterator[Difference | None]:
    """Let a started runner compute each request that has ended with nobody beside it.

    Yields for each, in order of arrival, the first token that is another one, or None.

    Raises:
        EngineDeadError: the runner has died.
        StartupError: this runner cannot compute such a request.
    """
    for answer in _answers(events):
        request = answer.arrival.request(
            answer.num_tokens,
            _RecordedConstraint(answer.masks) if answer.arrival.is_constrained else None,
        )
        await _compute(executor, limits, request)
        yield _first_difference(request, answer.output)


async def _pairs(
    executor: Executor, events: Iterable[Event]
) -> AsyncIterator[tuple[StepInput, StepOutput, StepOutput]]:
    """Each step, its recorded output, and its output now."""
    steps: dict[int, StepInput] = {}  # under way
    masks: dict[int, TokenMasks] = {}
    last: dict[int, int] = {}  # each request's newest token
    for event in events:
        match event:
            case StepInput():
                steps[event.step_id] = event
            case TokenMasks():
                masks[event.step_id] = event
            case Loss():
                steps.clear()
            case StepOutput():
                step = _resolved(steps.pop(event.step_id), last)
                replayed = executor.submit(step)
                if event.step_id in masks:
                    executor.send_masks(masks.pop(event.step_id))
                yield step, event, await replayed
                for chosen in _chosen(step, event):
                    last[chosen.sequence.request_id] = event.token_ids[chosen.place]


def _resolved(step: StepInput, last: dict[int, int]) -> StepInput:
    """The step with the tokens that were being chosen when it was planned."""

    def known(sequence: ScheduledSequence) -> ScheduledSequence:
        if sequence.token_ids != [PLACEHOLDER_TOKEN_ID]:
            return sequence
        token = max(last[sequence.request_id], 0)  # what comes of a row that failed is not read
        sampling = sequence.sampling
        if sampling is not None and sampling.history:
            history = sampling.history + array("i", [token]).tobytes()
            sampling = msgspec.structs.replace(sampling, history=history)
        return msgspec.structs.replace(sequence, token_ids=[token], sampling=sampling)

    return msgspec.structs.replace(step, sequences=[known(s) for s in step.sequences])


class _Chosen(NamedTuple):
    """A token that a step chose, in a place that means something."""

    row: int
    sequence: ScheduledSequence
    sampling: SamplingInput
    position: int
    """Of the token in its request."""
    place: int
    """In the step's output."""


def _chosen(step: StepInput, output: StepOutput) -> Iterator[_Chosen]:
    """What a step chose. What stands behind a wrong guess is left out."""
    place = 0
    for row, sequence in enumerate(step.sequences):
        end = sequence.start + len(sequence.token_ids) - len(sequence.drafts)
        is_read = True
        for i, sampling in enumerate(sequence.sampling_inputs):
            if is_read:
                yield _Chosen(row, sequence, sampling, end + i, place)
            if i < len(sequence.drafts):
                is_read = is_read and sequence.token_ids[1 + i] == output.token_ids[place]
            place += 1


def _compare(
    found: Comparison, step: StepInput, recorded: StepOutput, replayed: StepOutput
) -> None:
    for row, sequence, _, position, i in _chosen(step, recorded):
        found.num_tokens += 1
        token, now = recorded.token_ids[i], replayed.token_ids[i]
        if token != now:
            where = (step.step_id, row, len(step.sequences))
            found.add(Difference(sequence.request_id, position, token, now, *where))
        elif recorded.logprobs and (before := recorded.logprobs[i]) is not None:
            after = replayed.logprobs[i]
            assert after is not None
            change = abs(after.logprob - before.logprob)
            found.largest_change = max(found.largest_change, change)


@dataclass
class _Answer:
    """A request and what came of it."""

    arrival: Arrival
    tokens: dict[int, int] = field(default_factory=dict)
    """By position, perhaps more than were wanted."""
    masks: dict[int, bytes] = field(default_factory=dict)
    num_tokens: int = 0

    @property
    def output(self) -> list[int]:
        first = len(self.arrival.prompt_ids)
        return [self.tokens[first + i] for i in range(self.num_tokens)]


def _answers(events: Iterable[Event]) -> list[_Answer]:
    """Requests that were recorded from beginning to end and said something, as they came."""
    answers: dict[int, _Answer] = {}
    steps: dict[int, StepInput] = {}
    for event in events:
        match event:
            case Arrival():
                answers[event.id] = _Answer(event)
            case End():
                answers[event.id].num_tokens = event.num_output_tokens
            case StepInput():
                steps[event.step_id] = event
            case Loss():
                steps.clear()
            case TokenMasks():
                _note_masks(answers, steps[event.step_id], event)
            case StepOutput():
                for chosen in _chosen(steps.pop(event.step_id), event):
                    if answer := answers.get(chosen.sequence.request_id):
                        answer.tokens[chosen.position] = event.token_ids[chosen.place]
    return [a for a in answers.values() if a.num_tokens and not a.arrival.is_resumed]


def _note_masks(answers: dict[int, _Answer], step: StepInput, masks: TokenMasks) -> None:
    constrained = [s for s in step.sequences if s.sampling is not None and s.sampling.constrained]
    for sequence, mask in zip(constrained, masks.masks, strict=True):
        position = sequence.start + len(sequence.token_ids)
        answers[sequence.request_id].masks[position] = mask


class _RecordedConstraint:
    """Allows what was allowed when it was recorded; the number of tokens ends the request."""

    is_finished = False

    def __init__(self, masks: dict[int, bytes]) -> None:
        self._masks = [mask for _, mask in sorted(masks.items())]
        self._num_accepted = 0

    def allowed(self) -> bytes:
        return self._masks[self._num_accepted]

    def accept(self, token_id: int) -> None:
        self._num_accepted += 1


async def _compute(executor: Executor, limits: RunnerLimits, request: Request) -> None:
    """Bring one request to its end."""
    scheduler = Scheduler(SchedulerConfig(), limits, hash_key=b"")
    scheduler.add(request)
    while scheduler.has_work:
        step = scheduler.schedule()
        if step is None:
            raise StartupError("this runner cannot compute the recorded requests")
        output = executor.submit(step)
        if scheduler.constrained_in_flight:
            assert request.constraint is not None
            executor.send_masks(TokenMasks(step.step_id, [request.constraint.allowed()]))
        scheduler.update(await output)


def _first_difference(request: Request, recorded: list[int]) -> Difference | None:
    replayed = request.token_ids[request.num_prompt_tokens :].tolist()
    for i, token in enumerate(recorded):
        now = replayed[i] if i < len(replayed) else INVALID_TOKEN_ID
        if token != now:
            position = request.num_prompt_tokens + i
            return Difference(request.id, position, token, now, 0, 0, 1)
    return None
