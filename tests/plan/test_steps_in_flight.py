"""Steps for a runner that computes several at the same time, over different requests."""

from __future__ import annotations

from collections import deque

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.config import SchedulerConfig
from glmserve.contract.step import StepInput
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.scheduler import Scheduler
from support.fakes import LIMITS, FakeRunner, expected_output

MANY = {"max_sequences": 64, "max_step_tokens": 64, "num_blocks": 1000}


def make_scheduler(steps_in_flight: int, **changes: int) -> Scheduler:
    limits = msgspec.structs.replace(LIMITS, steps_in_flight=steps_in_flight, **changes)
    return Scheduler(SchedulerConfig(), limits, hash_key=b"key")


def add(
    scheduler: Scheduler, count: int, prompt_length: int = 1, max_tokens: int = 8, first: int = 0
) -> list[Request]:
    requests = [
        Request(first + i, [first + i] * prompt_length, SamplingParams(max_tokens=max_tokens))
        for i in range(count)
    ]
    for request in requests:
        scheduler.add(request)
    return requests


def plan_all(scheduler: Scheduler) -> list[StepInput]:
    steps = []
    while (step := scheduler.schedule()) is not None:
        steps.append(step)
    return steps


def ids(step: StepInput) -> list[int]:
    return [sequence.request_id for sequence in step.sequences]


class Pipeline:
    """Computes the oldest of the steps in flight, and lets as many more be planned as may be."""

    def __init__(self, scheduler: Scheduler, steps_in_flight: int) -> None:
        self.scheduler = scheduler
        self.runner = FakeRunner(
            msgspec.structs.replace(LIMITS, steps_in_flight=steps_in_flight, **MANY)
        )
        self.in_flight: deque[StepInput] = deque()

    def advance(self) -> None:
        self.in_flight += plan_all(self.scheduler)
        self.scheduler.update(self.runner.execute(self.in_flight.popleft()))


@pytest.mark.parametrize(
    ("decodes", "turns"), [(5, [5]), (15, [15]), (16, [8, 8]), (27, [9, 9, 9]), (50, [17, 17, 16])]
)
def test_decodes_are_shared_out_between_the_steps(decodes: int, turns: list[int]) -> None:
    """But for few, whose step takes as long as one over fewer."""
    scheduler = make_scheduler(3, **MANY)
    add(scheduler, decodes)
    pipeline = Pipeline(scheduler, 3)
    pipeline.advance()  # all prompts
    steps = plan_all(scheduler)
    assert [len(ids(step)) for step in steps] == turns
    assert [i for step in steps for i in ids(step)] == [*range(decodes)]
    scheduler.update(pipeline.runner.execute(steps[0]))
    assert [ids(step) for step in plan_all(scheduler)] == [ids(steps[0])]


def test_no_more_steps_than_the_runner_computes() -> None:
    scheduler = make_scheduler(3)
    add(scheduler, 8, prompt_length=32)  # each fills a step
    assert [ids(step) for step in plan_all(scheduler)] == [[0], [1], [2]]
    assert not scheduler.can_schedule


def test_chunks_of_a_prompt_follow_each_other() -> None:
    scheduler = make_scheduler(3)
    add(scheduler, 1, prompt_length=70)
    steps = plan_all(scheduler)
    assert [(s.sequences[0].start, len(s.sequences[0].token_ids)) for s in steps] == [
        (0, 32),
        (32, 32),
        (64, 6),
    ]
    assert [s.sequences[0].sampling is not None for s in steps] == [False, False, True]


def test_a_lone_request_is_in_one_step_at_a_time() -> None:
    scheduler = make_scheduler(4)
    add(scheduler, 1)
    assert len(plan_all(scheduler)) == 1
    assert scheduler.can_schedule, "a request that arrives need not wait for this step"
    add(scheduler, 1, first=1)
    assert [ids(step) for step in plan_all(scheduler)] == [[1]]


def test_a_new_prompt_does_not_wait_for_all_steps_in_flight() -> None:
    """It is in the next step, beside the decodes whose turn it is."""
    scheduler = make_scheduler(2, **MANY)
    add(scheduler, 16)
    pipeline = Pipeline(scheduler, 2)
    pipeline.advance()
    pipeline.in_flight += plan_all(scheduler)
    add(scheduler, 1, prompt_length=9, first=99)
    pipeline.advance()
    assert ids(plan_all(scheduler)[0]) == [*range(8), 99]


@settings(max_examples=100)
@given(
    overlapping=st.integers(2, 5),
    lengths=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=60),
)
def test_every_request_has_its_turn(overlapping: int, lengths: list[tuple[int, int]]) -> None:
    """Each that decodes gains a token in as many steps as may be in flight, whatever else ends."""
    scheduler = make_scheduler(overlapping, **MANY)
    requests = [
        Request(i, [i] * prompt, SamplingParams(max_tokens=output))
        for i, (prompt, output) in enumerate(lengths)
    ]
    for request in requests:
        scheduler.add(request)
    pipeline = Pipeline(scheduler, overlapping)
    waited = dict.fromkeys(range(len(requests)), 0)
    while scheduler.has_work:
        decoding = {r.id: r.num_output_tokens for r in requests if r.num_output_tokens}
        pipeline.advance()
        assert len(pipeline.in_flight) < overlapping
        for request in requests:
            if request.id in decoding and not request.status.is_finished:
                waits = request.num_output_tokens == decoding[request.id]
                waited[request.id] = waited[request.id] + 1 if waits else 0
                assert waited[request.id] <= overlapping
    for request, (_, output) in zip(requests, lengths, strict=True):
        assert request.status is RequestStatus.FINISHED_LENGTH
        want = expected_output(request.prompt_ids, output)
        assert request.token_ids[request.num_prompt_tokens :].tolist() == want
