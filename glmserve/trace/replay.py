"""Replays a recording on a runner, and compares each token with the recorded one."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from glmserve.config import SchedulerConfig
from glmserve.contract.adapter import AdapterSource
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
from glmserve.contract.wire import LoadAdapter, RemoveAdapter
from glmserve.errors import StartupError
from glmserve.executor import Executor
from glmserve.request import Request
from glmserve.scheduler import Scheduler
from glmserve.trace.adapters import ReplayedAdapters
from glmserve.trace.events import Arrival, End, Event, Loss


class Difference(NamedTuple):
    """A token that differs from the recorded one."""

    request_id: int
    position: int
    """Position in prompt and output together, from 0."""
    recorded: int
    """INVALID_TOKEN_ID, or a token id."""
    replayed: int
    step_id: int
    """Step of the recording."""
    row: int
    """Index of the sequence in the step."""
    num_rows: int
    """Number of sequences in the step."""


@dataclass
class Comparison:
    """The result of a replay."""

    num_steps: int = 0
    num_tokens: int = 0
    num_different: int = 0
    first: Difference | None = None
    request_ids: set[int] = field(default_factory=set)
    """Requests with a difference."""
    largest_change: float = 0.0
    """Largest difference of a log-probability of equal tokens, in nats."""

    def add(self, difference: Difference) -> None:
        """Count a difference."""
        self.first = self.first or difference
        self.num_different += 1
        self.request_ids.add(difference.request_id)


def fitting_events(events: Iterable[Event], vocab_size: int) -> Iterator[Event]:
    """The events, for a model with this vocabulary.

    Raises:
        StartupError: a step has a token that is not in it.
    """
    for event in events:
        if isinstance(event, StepInput) and any(
            max(sequence.token_ids, default=0) >= vocab_size for sequence in event.sequences
        ):
            raise StartupError(
                f"this model has {vocab_size} tokens, and the recorded one had more; replay the "
                "recording with the model of which it is"
            )
        yield event


async def replay_steps(executor: Executor, events: Iterable[Event]) -> Comparison:
    """Let a started runner compute the recorded steps again.

    Each step continues from the recorded tokens, so a difference does not propagate.

    Raises:
        EngineDeadError: the runner died.
        AdapterError: an adapter is gone, or has another content now.
    """
    comparison = Comparison()
    async for step, recorded, replayed in _replay(executor, events):
        comparison.num_steps += 1
        _compare(comparison, step, recorded, replayed)
    return comparison


async def replay_alone(
    executor: Executor, limits: RunnerLimits, events: Iterable[Event]
) -> AsyncIterator[Difference | None]:
    """Let a started runner compute each finished request again, alone in its batch.

    Yields:
        For each request, in order of arrival, the first difference, or None.

    Raises:
        EngineDeadError: the runner died.
        StartupError: this runner cannot compute such a request.
        AdapterError: an adapter is gone, or has another content now.
    """
    adapters = ReplayedAdapters(executor)
    for answer in _finished_answers(events):
        if answer.adapter is not None:
            adapters.remove_all()
            await adapters.load(answer.adapter)
        request = answer.arrival.request(
            answer.num_tokens,
            _RecordedConstraint(answer.masks) if answer.arrival.is_constrained else None,
        )
        await _compute(executor, limits, request)
        yield _first_difference(request, answer.output)


async def _replay(
    executor: Executor, events: Iterable[Event]
) -> AsyncIterator[tuple[StepInput, StepOutput, StepOutput]]:
    """Yield each step, its recorded output, and its output of this replay."""
    adapters = ReplayedAdapters(executor)
    # As the runner got them: steps without output, and adapters that come and go behind them.
    sent: deque[StepInput | LoadAdapter | RemoveAdapter] = deque()
    masks: dict[int, TokenMasks] = {}
    last_tokens: dict[int, int] = {}  # by request id: its newest token
    for event in events:
        match event:
            case StepInput() | LoadAdapter() | RemoveAdapter():
                sent.append(event)
            case TokenMasks():
                masks[event.step_id] = event
            case Loss():
                sent.clear()
                adapters.remove_all()
            case StepOutput():
                step = _resolve_placeholders(_next_step(sent, event), last_tokens)
                replayed = executor.submit(step)
                if event.step_id in masks:
                    executor.send_masks(masks.pop(event.step_id))
                yield step, event, await replayed
                for sampled in _sampled_tokens(step, event):
                    last_tokens[sampled.sequence.request_id] = event.token_ids[sampled.output_index]
        while sent and not isinstance(change := sent[0], StepInput):
            sent.popleft()
            await adapters.apply(change)


def _next_step(
    sent: deque[StepInput | LoadAdapter | RemoveAdapter], output: StepOutput
) -> StepInput:
    """The step of an output: outputs come in the order of steps."""
    step = sent.popleft()
    assert isinstance(step, StepInput), "adapters are applied as soon as no step is before them"
    assert step.step_id == output.step_id
    return step


def _resolve_placeholders(step: StepInput, last_tokens: dict[int, int]) -> StepInput:
    """The step with the recorded tokens in place of its placeholders.

    Args:
        last_tokens: newest token by request id.
    """

    def resolve(sequence: ScheduledSequence) -> ScheduledSequence:
        if sequence.token_ids != [PLACEHOLDER_TOKEN_ID]:
            return sequence
        token = max(
            last_tokens[sequence.request_id], 0
        )  # a failed row has no token; its output is unused
        sampling = sequence.sampling
        if sampling is not None and sampling.history:
            history = sampling.history + array("i", [token]).tobytes()
            sampling = msgspec.structs.replace(sampling, history=history)
        return msgspec.structs.replace(sequence, token_ids=[token], sampling=sampling)

    return msgspec.structs.replace(step, sequences=[resolve(s) for s in step.sequences])


class _SampledToken(NamedTuple):
    """A token that a step sampled and that its request could use."""

    row: int
    sequence: ScheduledSequence
    sampling: SamplingInput
    position: int
    """Position of the token in its request."""
    output_index: int
    """Index of the token in the step's output."""


def _sampled_tokens(step: StepInput, output: StepOutput) -> Iterator[_SampledToken]:
    """The tokens that a step sampled, except those after a wrong draft."""
    index = 0
    for row, sequence in enumerate(step.sequences):
        end = sequence.start + len(sequence.token_ids) - len(sequence.drafts)
        is_read = True
        for i, sampling in enumerate(sequence.sampling_inputs):
            if is_read:
                yield _SampledToken(row, sequence, sampling, end + i, index)
            if i < len(sequence.drafts):
                is_read = is_read and sequence.token_ids[1 + i] == output.token_ids[index]
            index += 1


def _compare(
    comparison: Comparison, step: StepInput, recorded: StepOutput, replayed: StepOutput
) -> None:
    for row, sequence, _, position, i in _sampled_tokens(step, recorded):
        comparison.num_tokens += 1
        token, replayed_token = recorded.token_ids[i], replayed.token_ids[i]
        if token != replayed_token:
            where = (step.step_id, row, len(step.sequences))
            comparison.add(Difference(sequence.request_id, position, token, replayed_token, *where))
        elif recorded.logprobs and (before := recorded.logprobs[i]) is not None:
            after = replayed.logprobs[i]
            assert after is not None
            change = abs(after.logprob - before.logprob)
            comparison.largest_change = max(comparison.largest_change, change)


@dataclass
class _Answer:
    """A recorded request and its output."""

    arrival: Arrival
    adapter: AdapterSource | None = None
    tokens: dict[int, int] = field(default_factory=dict)
    """Token by position; there may be more than the request kept."""
    masks: dict[int, bytes] = field(default_factory=dict)
    num_tokens: int = 0

    @property
    def output(self) -> list[int]:
        first = len(self.arrival.prompt_ids)
        return [self.tokens[first + i] for i in range(self.num_tokens)]


def _finished_answers(events: Iterable[Event]) -> list[_Answer]:
    """Requests that were recorded from beginning to end and have output, in order of arrival."""
    answers: dict[int, _Answer] = {}
    steps: dict[int, StepInput] = {}
    sources: dict[int, AdapterSource] = {}
    for event in events:
        match event:
            case LoadAdapter(source):
                sources[source.id] = source
            case Arrival():
                answers[event.id] = _Answer(event)
            case End():
                answers[event.id].num_tokens = event.num_output_tokens
            case StepInput():
                steps[event.step_id] = event
            case Loss():
                steps.clear()
            case TokenMasks():
                _add_masks(answers, steps[event.step_id], event)
            case StepOutput():
                for sampled in _sampled_tokens(steps.pop(event.step_id), event):
                    if answer := answers.get(sampled.sequence.request_id):
                        answer.tokens[sampled.position] = event.token_ids[sampled.output_index]
    for answer in answers.values():
        answer.adapter = sources.get(answer.arrival.adapter_id)
    return [a for a in answers.values() if a.num_tokens and not a.arrival.is_resumed]


def _add_masks(answers: dict[int, _Answer], step: StepInput, masks: TokenMasks) -> None:
    constrained = [s for s in step.sequences if s.sampling is not None and s.sampling.constrained]
    for sequence, mask in zip(constrained, masks.masks, strict=True):
        position = sequence.start + len(sequence.token_ids)
        answers[sequence.request_id].masks[position] = mask


class _RecordedConstraint:
    """Allows the recorded token masks. The request ends by its number of tokens."""

    is_finished = False

    def __init__(self, masks: dict[int, bytes]) -> None:
        self._masks = [mask for _, mask in sorted(masks.items())]
        self._num_accepted = 0

    def allowed(self) -> bytes:
        return self._masks[self._num_accepted]

    def accept(self, token_id: int) -> None:
        self._num_accepted += 1


async def _compute(executor: Executor, limits: RunnerLimits, request: Request) -> None:
    """Compute one request to its end.

    Raises:
        StartupError: the runner's limits do not allow it.
    """
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
        replayed_token = replayed[i] if i < len(replayed) else INVALID_TOKEN_ID
        if token != replayed_token:
            position = request.num_prompt_tokens + i
            return Difference(request.id, position, token, replayed_token, 0, 0, 1)
    return None
