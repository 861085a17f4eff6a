"""Planning a step while the one before it runs."""

from __future__ import annotations

from collections import deque

import msgspec
import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    RunnerLimits,
    StepInput,
    StepOutput,
    unpack_int32,
)
from glmserve.errors import QueueFullError
from glmserve.request import Request, RequestStatus
from glmserve.scheduler import Scheduler
from glmserve.scheduler.random import noise_key
from support.fakes import LIMITS, FakeRunner, expected_output
from support.flat_sampling import sampling_params

AHEAD = msgspec.structs.replace(LIMITS, resolves_placeholders=True)


def make_scheduler(limits: RunnerLimits = AHEAD, max_batch_size: int = 16) -> Scheduler:
    return Scheduler(SchedulerConfig(max_batch_size=max_batch_size), limits, hash_key=b"key")


def make_request(
    request_id: int, prompt: list[int], max_tokens: int = 8, **fields: object
) -> Request:
    return Request(request_id, prompt, sampling_params(max_tokens, **fields))


def plan(scheduler: Scheduler) -> StepInput:
    step = scheduler.schedule()
    assert step is not None
    return step


def tokens(step: StepInput) -> dict[int, list[int]]:
    return {s.request_id: s.token_ids for s in step.sequences}


def test_a_token_that_is_being_chosen_is_pending() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(0, [5, 6, 7]))
    first, second = plan(scheduler), plan(scheduler)
    assert tokens(first) == {0: [5, 6, 7]}
    assert tokens(second) == {0: [PLACEHOLDER_TOKEN_ID]}
    assert second.sequences[0].start == 3
    assert len(unpack_int32(second.sequences[0].block_table)) == 1
    scheduler.update(StepOutput(first.step_id, [40]))
    assert tokens(plan(scheduler)) == {0: [PLACEHOLDER_TOKEN_ID]}


def test_only_one_step_is_planned_ahead() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(0, [5, 6, 7]))
    assert scheduler.can_schedule
    plan(scheduler)
    assert scheduler.can_schedule
    plan(scheduler)
    assert not scheduler.can_schedule
    assert scheduler.schedule() is None


def test_no_step_is_planned_ahead_for_a_runner_that_cannot() -> None:
    scheduler = make_scheduler(LIMITS)
    scheduler.add(make_request(0, [5, 6, 7]))
    plan(scheduler)
    assert not scheduler.can_schedule
    assert scheduler.schedule() is None


def test_a_prompt_goes_on_in_the_next_step() -> None:
    scheduler = make_scheduler(msgspec.structs.replace(AHEAD, max_step_tokens=2))
    scheduler.add(make_request(0, [5, 6, 7]))
    first, second = plan(scheduler), plan(scheduler)
    assert (tokens(first), tokens(second)) == ({0: [5, 6]}, {0: [7]})
    assert first.sequences[0].sampling is None
    assert second.sequences[0].sampling is not None


def test_nothing_follows_a_request_s_last_token() -> None:
    scheduler = make_scheduler()
    last = make_request(0, [5, 6, 7], max_tokens=1)
    scheduler.add(last)
    first = plan(scheduler)
    assert scheduler.schedule() is None
    assert scheduler.has_work
    scheduler.update(StepOutput(first.step_id, [40]))
    assert last.status is RequestStatus.FINISHED_LENGTH
    assert not scheduler.has_work


def test_what_is_computed_for_a_request_that_has_ended_is_passed_over() -> None:
    scheduler = make_scheduler()
    request = make_request(0, [5, 6, 7], stop_token_ids=frozenset({40}))
    scheduler.add(request, make_request(1, [5, 6, 7]))
    scheduler.add(make_request(2, [8, 9]))
    first, second = plan(scheduler), plan(scheduler)
    scheduler.update(StepOutput(first.step_id, [40, 50]))
    assert request.status is RequestStatus.FINISHED_STOPPED
    assert tokens(second) == {0: [PLACEHOLDER_TOKEN_ID], 2: [PLACEHOLDER_TOKEN_ID]}
    updates = scheduler.update(StepOutput(second.step_id, [41, 51]))
    assert [(u.request.id, u.token_id) for u in updates] == [(2, 51)]
    assert list(request.token_ids) == [5, 6, 7, 40]


def test_pending_tokens_count_for_what_depends_on_the_position() -> None:
    scheduler = make_scheduler()
    fields = {"min_tokens": 2, "stop_token_ids": frozenset({9}), "presence_penalty": 1.0}
    scheduler.add(make_request(0, [5, 6, 7], seed=3, **fields))
    steps = [plan(scheduler), plan(scheduler)]
    scheduler.update(StepOutput(1, [40]))
    steps.append(plan(scheduler))
    sampling = [step.sequences[0].sampling for step in steps]
    assert [s.banned for s in sampling if s] == [(9,), (9,), ()]
    assert [s.noise_key for s in sampling if s] == [noise_key(3, i) for i in (3, 4, 5)]
    histories = [list(unpack_int32(s.history)) for s in sampling if s]
    assert histories == [[5, 6, 7], [5, 6, 7], [5, 6, 7, 40]]


def test_nobody_is_preempted_while_a_step_is_in_flight() -> None:
    """Two requests fill three blocks; each wants another one, for which one of them must yield."""
    scheduler = make_scheduler(msgspec.structs.replace(AHEAD, num_blocks=4))
    old, young = make_request(0, [5] * 7), make_request(1, [6] * 4)
    scheduler.add(old)
    scheduler.add(young)
    first, second = plan(scheduler), plan(scheduler)
    assert tokens(second) == {0: [PLACEHOLDER_TOKEN_ID], 1: [PLACEHOLDER_TOKEN_ID]}
    scheduler.update(StepOutput(first.step_id, [40, 50]))
    assert scheduler.schedule() is None
    assert scheduler.stats.preemptions == 0
    scheduler.update(StepOutput(second.step_id, [41, 51]))
    assert tokens(plan(scheduler)) == {0: [41]}
    assert scheduler.stats.preemptions == 1
    assert list(young.token_ids[4:]) == [50, 51]


def test_a_request_whose_last_token_is_being_chosen_leaves_its_place() -> None:
    scheduler = make_scheduler(max_batch_size=1)
    for request_id in range(2):
        scheduler.add(make_request(request_id, [request_id], max_tokens=1))
    assert tokens(plan(scheduler)) == {0: [0]}
    assert tokens(plan(scheduler)) == {1: [1]}


def test_requests_beyond_the_places_do_not_count_for_the_queue() -> None:
    """Two run at the same time, as the first only waits for its last token."""
    config = SchedulerConfig(max_batch_size=1, queue_size=1)
    scheduler = Scheduler(config, AHEAD, hash_key=b"key")
    for request_id in range(2):
        scheduler.add(make_request(request_id, [request_id], max_tokens=1))
        plan(scheduler)
    scheduler.add(make_request(2, [2]))
    with pytest.raises(QueueFullError):
        scheduler.add(make_request(3, [3]))


def test_only_blocks_that_are_computed_are_shared() -> None:
    scheduler, runner = make_scheduler(), FakeRunner(AHEAD)
    prompt = [*range(9)]
    scheduler.add(make_request(0, prompt))
    first = plan(scheduler)
    scheduler.add(make_request(1, prompt))
    assert tokens(plan(scheduler)) == {0: [PLACEHOLDER_TOKEN_ID], 1: prompt}
    scheduler.update(runner.execute(first))
    scheduler.add(make_request(2, prompt))
    assert tokens(plan(scheduler))[2] == [8]


def test_a_block_that_is_still_written_for_a_request_that_has_ended_is_not_shared() -> None:
    """Its pending token fills a block in the step in flight."""
    scheduler = make_scheduler()
    prompt = [*range(7)]
    scheduler.add(make_request(0, prompt, stop_token_ids=frozenset({40})))
    first = plan(scheduler)
    plan(scheduler)
    scheduler.update(StepOutput(first.step_id, [40]))
    scheduler.add(make_request(1, [*prompt, 40, 41]))
    assert tokens(plan(scheduler)) == {1: [4, 5, 6, 40, 41]}


def test_blocks_that_pending_tokens_filled_are_shared_once_these_are_known() -> None:
    scheduler, runner = make_scheduler(), FakeRunner(AHEAD)
    prompt = [*range(7)]
    request = make_request(0, prompt, max_tokens=6)
    scheduler.add(request)
    steps = deque([plan(scheduler)])
    while steps:
        if (step := scheduler.schedule()) is not None:
            steps.append(step)
        scheduler.update(runner.execute(steps.popleft()))
    assert list(request.token_ids) == prompt + expected_output(prompt, 6)
    scheduler.add(make_request(1, request.token_ids.tolist()))
    assert tokens(plan(scheduler)) == {1: [request.token_ids[12]]}


def test_continuations_join_once_the_prompt_is_computed() -> None:
    scheduler, runner = make_scheduler(), FakeRunner(AHEAD)
    scheduler.add(*(make_request(i, [*range(9)]) for i in range(3)))
    first, second = plan(scheduler), plan(scheduler)
    assert tokens(second) == {0: [PLACEHOLDER_TOKEN_ID]}
    scheduler.update(runner.execute(first))
    assert tokens(plan(scheduler)) == {0: [PLACEHOLDER_TOKEN_ID], 1: [8], 2: [8]}


def test_steps_without_mixing_go_on_with_prompts_first() -> None:
    scheduler = make_scheduler(msgspec.structs.replace(AHEAD, mixes_prefill_and_decode=False))
    scheduler.add(make_request(0, [5, 6, 7]))
    first = plan(scheduler)
    scheduler.add(make_request(1, [8, 9]))
    second = plan(scheduler)
    assert tokens(second) == {1: [8, 9]}
    scheduler.update(StepOutput(first.step_id, [40]))
    assert tokens(plan(scheduler)) == {0: [40], 1: [PLACEHOLDER_TOKEN_ID]}
