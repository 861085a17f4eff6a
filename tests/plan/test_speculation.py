"""Drafts in a step: which requests get them, how many, and which are kept."""

from __future__ import annotations

import msgspec
import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import (
    INVALID_TOKEN_ID,
    RunnerLimits,
    StepInput,
    StepOutput,
    unpack_int32,
)
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.scheduler import Scheduler
from glmserve.scheduler.drafter import AdaptiveDrafter, Sources
from glmserve.scheduler.random import noise_key
from support.fakes import LIMITS
from support.flat_sampling import sampling_params
from support.simulation import Remainders

DRAFTING = msgspec.structs.replace(LIMITS, max_drafts=16)
LOOP = [1, 2, 3] * 4
"""Says what comes next: 1, 2, 3 and so on."""


def make_request(request_id: int, prompt: list[int], **fields: object) -> Request:
    return Request(request_id, prompt, sampling_params(**{"max_tokens": 40, **fields}))


def started(
    *requests: Request, limits: RunnerLimits = DRAFTING, most: int = 4, **config: int
) -> Scheduler:
    """A scheduler with requests that have computed prompts and the output token 1."""
    scheduler = Scheduler(
        SchedulerConfig(speculative_tokens=most, **config), limits, hash_key=b"key"
    )
    for request in requests:
        scheduler.add(request)
    while any(not request.num_output_tokens for request in requests):
        step = plan(scheduler)
        sampled = [place for s in step.sequences for place in s.sampling_inputs]
        scheduler.update(StepOutput(step.step_id, [1] * len(sampled)))
    return scheduler


def plan(scheduler: Scheduler) -> StepInput:
    step = scheduler.schedule()
    assert step is not None
    return step


def tokens(step: StepInput) -> dict[int, list[int]]:
    return {s.request_id: s.token_ids for s in step.sequences}


def test_drafts_follow_the_last_token() -> None:
    scheduler = started(make_request(0, LOOP))
    step = plan(scheduler)
    assert tokens(step) == {0: [1, 2, 3, 1, 2]}
    assert step.sequences[0].start == 12
    assert len(step.sequences[0].sampling_inputs) == 5
    assert len(unpack_int32(step.sequences[0].block_table)) * 4 >= 12 + 5


def test_what_is_foreseen_is_kept_and_one_more() -> None:
    request = make_request(0, LOOP)
    scheduler = started(request)
    step = plan(scheduler)
    updates = scheduler.update(StepOutput(step.step_id, [2, 3, 50, 2, 3]))
    assert [u.token_id for u in updates] == [2, 3, 50]
    assert request.token_ids.tolist() == [*LOOP, 1, 2, 3, 50]
    assert (request.num_computed_tokens, request.num_scheduled_tokens) == (15, 15)
    assert (scheduler.stats.drafted, scheduler.stats.accepted) == (4, 2)
    assert tokens(plan(scheduler)) == {0: [50]}


def test_a_token_behind_the_drafts_comes_for_nothing() -> None:
    request = make_request(0, LOOP)
    scheduler = started(request)
    step = plan(scheduler)
    scheduler.update(StepOutput(step.step_id, [2, 3, 1, 2, 60]))
    assert request.token_ids.tolist()[-6:] == [1, 2, 3, 1, 2, 60]


def test_each_place_is_chosen_by_its_own_position() -> None:
    fields = {"temperature": 1.0, "seed": 3, "min_tokens": 3, "stop_token_ids": frozenset({9})}
    scheduler = started(make_request(0, LOOP, **fields))
    places = plan(scheduler).sequences[0].sampling_inputs
    assert [p.noise_key for p in places] == [noise_key(3, i) for i in range(13, 18)]
    assert [p.banned for p in places] == [(9,), (9,), (), (), ()]


def test_the_end_may_come_in_the_middle() -> None:
    request = make_request(0, LOOP, stop_token_ids=frozenset({3}))
    scheduler = started(request)
    step = plan(scheduler)
    updates = scheduler.update(StepOutput(step.step_id, [2, 3, 1, 2, 3]))
    assert [(u.token_id, u.is_last) for u in updates] == [(2, False), (3, True)]
    assert request.status is RequestStatus.FINISHED_STOPPED
    assert scheduler.stats.used_blocks == 0


def test_nothing_is_drafted_that_could_not_be_kept() -> None:
    """Of three tokens that may still come, the step chooses one anyway."""
    request = make_request(0, LOOP, max_tokens=4)
    scheduler = started(request)
    step = plan(scheduler)
    assert tokens(step) == {0: [1, 2, 3]}
    scheduler.update(StepOutput(step.step_id, [2, 3, 1]))
    assert request.status is RequestStatus.FINISHED_LENGTH
    assert request.num_output_tokens == 4


@pytest.mark.parametrize(("token", "end"), [(INVALID_TOKEN_ID, True), (50, False)])
def test_numbers_that_are_not_finite_count_only_where_they_are_read(token: int, end: bool) -> None:
    """Behind a wrong guess nothing is meant."""
    request = make_request(0, LOOP)
    scheduler = started(request)
    step = plan(scheduler)
    updates = scheduler.update(StepOutput(step.step_id, [2, token, INVALID_TOKEN_ID, 1, 1]))
    assert [u.token_id for u in updates] == [2, token]
    assert (request.status is RequestStatus.FINISHED_ERROR) is end


def test_a_token_that_a_draft_may_have_spoilt_is_chosen_again_without() -> None:
    request = make_request(0, LOOP)
    scheduler = started(request)
    step = plan(scheduler)
    assert scheduler.update(StepOutput(step.step_id, [INVALID_TOKEN_ID] * 5)) == []
    again = plan(scheduler)
    assert tokens(again) == {0: [1]}
    assert again.sequences[0].start == step.sequences[0].start
    scheduler.update(StepOutput(again.step_id, [INVALID_TOKEN_ID]))
    assert request.status is RequestStatus.FINISHED_ERROR


@pytest.mark.parametrize(
    "fields", [{"presence_penalty": 1.0}, {"repetition_penalty": 1.1}, {"max_tokens": 2}]
)
def test_who_gets_none(fields: dict[str, object]) -> None:
    assert tokens(plan(started(make_request(0, LOOP, **fields)))) == {0: [1]}


def test_a_structure_gets_none() -> None:
    request = Request(
        0,
        LOOP,
        SamplingParams(max_tokens=40, sampling=Sampling(temperature=1.0)),
        constraint=Remainders(20),
    )
    scheduler = Scheduler(SchedulerConfig(speculative_tokens=4), DRAFTING, hash_key=b"key")
    scheduler.add(request)
    scheduler.update(StepOutput(plan(scheduler).step_id, [3]))
    assert tokens(plan(scheduler)) == {0: [3]}


def test_drafts_are_shared_out_and_left_over_ones_go_on() -> None:
    no_loop = [*range(40, 52)]
    requests = [make_request(i, no_loop if i == 0 else LOOP) for i in range(3)]
    limits = msgspec.structs.replace(DRAFTING, max_drafts=5, max_step_tokens=64)
    step = plan(started(*requests, limits=limits))
    assert [len(s.drafts) for s in step.sequences] == [0, 3, 2]


def test_drafts_take_only_what_tokens_leave_of_the_budget() -> None:
    limits = msgspec.structs.replace(DRAFTING, max_step_tokens=14)
    scheduler = started(make_request(0, LOOP), limits=limits)
    scheduler.add(make_request(1, [7] * 11))
    assert {i: len(t) for i, t in tokens(plan(scheduler)).items()} == {0: 3, 1: 11}


def test_drafts_leave_a_block_for_each_running_request() -> None:
    """Twelve and one tokens fill four blocks of four; a fifth would hold the last draft."""
    for num_blocks, expected in ((5, 3), (6, 4)):
        limits = msgspec.structs.replace(DRAFTING, num_blocks=num_blocks)
        request = make_request(0, LOOP, max_tokens=8)
        scheduler = started(request, limits=limits)
        step = plan(scheduler)
        assert len(step.sequences[0].drafts) == expected
        scheduler.update(StepOutput(step.step_id, [50] * (1 + expected)))
        assert scheduler.stats.used_blocks == 4  # of 13 tokens


def test_a_prediction_is_where_drafts_come_from() -> None:
    request = Request(0, [40, 41], SamplingParams(max_tokens=40), prediction=[7, 1, 1, 8, 9])
    scheduler = started(request)
    scheduler.update(StepOutput(plan(scheduler).step_id, [1]))
    step = plan(scheduler)
    assert tokens(step) == {0: [1, 8, 9, 40, 41]}
    scheduler.update(StepOutput(step.step_id, [8, 9, 50, 1, 1]))
    assert (request.num_drafted_tokens, request.num_accepted_tokens) == (4, 2)


def test_with_drafts_no_step_is_planned_ahead() -> None:
    limits = msgspec.structs.replace(DRAFTING, resolves_placeholders=True)
    scheduler = started(make_request(0, LOOP), limits=limits)
    plan(scheduler)
    assert scheduler.schedule() is None


class TestDrafter:
    """How long a request's drafts are, by what came of those before."""

    def test_right_ones_make_it_longer(self) -> None:
        drafter = AdaptiveDrafter(8, Sources())
        drafter.record_result(8, 2)
        assert len(drafter.guess(make_request(0, LOOP), 100)) == 2
        drafter.record_result(2, 2)
        assert len(drafter.guess(make_request(0, LOOP), 100)) == 4
        drafter.record_result(4, 4)
        drafter.record_result(8, 8)
        assert len(drafter.guess(make_request(0, LOOP), 100)) == 8

    def test_wrong_ones_make_it_pause_longer_and_longer(self) -> None:
        drafter, request = AdaptiveDrafter(8, Sources()), make_request(0, LOOP)
        pauses = []
        for _ in range(7):
            drafter.record_result(1, 0)
            pauses.append(0)
            while not drafter.guess(request, 8):
                pauses[-1] += 1
        assert pauses == [1, 3, 7, 15, 31, 31, 31]
        assert len(drafter.guess(request, 8)) == 1
        drafter.record_result(1, 1)
        assert drafter.guess(request, 8)
