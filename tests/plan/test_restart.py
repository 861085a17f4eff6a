"""The runner may crash at any moment: texts stay what they are, and no block leaks."""

from __future__ import annotations

from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.config import SchedulerConfig
from glmserve.contract.step import RunnerLimits, StepInput, StepOutput
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.scheduler import Scheduler
from glmserve.scheduler.crash_tracker import MAX_CRASHES
from glmserve.scheduler.drafter import AdaptiveDrafter
from support.arrivals import arrivals, check_reports, check_updates, runner_limits
from support.fakes import LIMITS
from support.simulation import Arrival, Simulation, oracle, output_alone, output_of

POISON = 300
"""A prompt's token that crashes the runner. No other request has or says it."""


def check(simulation: Simulation) -> None:
    """Each request says what it would say alone, as far as it was let."""
    for request, arrival in simulation.requests:
        output = output_of(request)
        expected, end = output_alone(arrival)
        if request.status in (RequestStatus.FINISHED_ABORTED, RequestStatus.FINISHED_ERROR):
            assert output == expected[: len(output)]
        else:
            check_updates(simulation.updates[request.id], output)
            assert (output, request.status) == (expected, end)
            check_reports(request)
    stats = simulation.scheduler.stats
    assert (stats.running, stats.waiting, stats.used_blocks) == (0, 0, 0)


def is_convicted(request: Request) -> bool:
    return request.status is RequestStatus.FINISHED_ERROR


@settings(max_examples=200)
@given(
    limits=runner_limits(),
    budget=st.sampled_from([5, 9, 64]),
    prefix_cache=st.booleans(),
    plan=st.lists(arrivals, min_size=1, max_size=12),
    crashes=st.sets(st.integers(0, 60), max_size=20),
)
def test_crashes_at_any_moment_change_no_text(
    limits: RunnerLimits,
    budget: int,
    prefix_cache: bool,
    plan: list[Arrival],
    crashes: set[int],
) -> None:
    """Prompts under way, steps ahead, groups, constraints, scores and sums included."""
    if not limits.chunked_prefill or not limits.mixes_prefill_and_decode:
        budget = 64  # FakeRunner takes a chunk of one token for a decode
    config = SchedulerConfig(8, budget, prefix_cache=prefix_cache)
    simulation = Simulation(limits, config, plan, crashes)
    simulation.run()
    check(simulation)


@settings(max_examples=100)
@given(
    limits=runner_limits(),
    plan=st.lists(arrivals, min_size=1, max_size=12),
    speculative_tokens=st.integers(1, 6),
    error_every=st.sampled_from([1, 2, 5, 50]),
    crashes=st.sets(st.integers(0, 60), max_size=20),
)
def test_crashes_with_drafts_change_no_text(
    limits: RunnerLimits,
    plan: list[Arrival],
    speculative_tokens: int,
    error_every: int,
    crashes: set[int],
) -> None:
    config = SchedulerConfig(8, 64, speculative_tokens=speculative_tokens)
    simulation = Simulation(limits, config, plan, crashes)
    with mock.patch.object(AdaptiveDrafter, "guess", oracle(error_every)):
        simulation.run()
    check(simulation)


@settings(max_examples=50)
@given(
    limits=runner_limits(),
    plan=st.lists(arrivals, min_size=1, max_size=12),
    first=st.integers(0, 60),
)
def test_two_crashes_in_a_row_convict_nobody(
    limits: RunnerLimits, plan: list[Arrival], first: int
) -> None:
    simulation = Simulation(limits, SchedulerConfig(8, 64), plan, {first, first + 1})
    simulation.run()
    check(simulation)
    assert not any(is_convicted(request) for request, _ in simulation.requests)


@settings(max_examples=100)
@given(
    limits=runner_limits(),
    plan=st.lists(arrivals, min_size=1, max_size=10),
    poisoned=st.lists(arrivals, min_size=1, max_size=3),
    place=st.integers(0, 3),
)
def test_only_what_crashes_the_runner_is_given_up(
    limits: RunnerLimits, plan: list[Arrival], poisoned: list[Arrival], place: int
) -> None:
    """And that at its third crash."""
    for arrival in poisoned:
        arrival.prompt = [*arrival.prompt[:place], POISON, *arrival.prompt[place:]][:26]
        arrival.abort_after = None
    config = SchedulerConfig(max_batch_size=8, max_step_tokens=64)
    simulation = Simulation(limits, config, plan + poisoned, poison=POISON)
    simulation.run()
    check(simulation)
    for request, _ in simulation.requests:
        assert is_convicted(request) == (POISON in request.prompt_ids)
    culprits = sum(arrival.continuations for arrival in poisoned)
    assert simulation.num_restarts <= MAX_CRASHES * culprits


def greedy(request_id: int, prompt: list[int], max_tokens: int = 8) -> Request:
    return Request(request_id, prompt, SamplingParams(max_tokens=max_tokens))


def plan(scheduler: Scheduler) -> StepInput:
    step = scheduler.schedule()
    assert step is not None
    return step


def request_ids(step: StepInput) -> list[int]:
    return [sequence.request_id for sequence in step.sequences]


def test_everybody_keeps_their_place_and_nothing_is_found_in_the_new_cache() -> None:
    scheduler = Scheduler(SchedulerConfig(max_batch_size=2), LIMITS, hash_key=b"key")
    for i in range(3):
        scheduler.add(greedy(i, [7] * 9))
    scheduler.update(StepOutput(plan(scheduler).step_id, [40, 41]))
    plan(scheduler)
    assert scheduler.restart() == []
    assert scheduler.stats.used_blocks == 0
    assert (scheduler.stats.running, scheduler.stats.waiting) == (0, 3)
    step = plan(scheduler)
    assert [(s.request_id, s.start, s.token_ids) for s in step.sequences] == [
        (0, 0, [7] * 9 + [40]),
        (1, 0, [7] * 9 + [41]),
    ]


def test_suspects_are_computed_one_at_a_time_before_others() -> None:
    scheduler = Scheduler(SchedulerConfig(), LIMITS, hash_key=b"key")
    scheduler.add(greedy(0, [1, 2]))
    scheduler.add(greedy(1, [3, 4]))
    for _ in range(MAX_CRASHES - 1):
        assert request_ids(plan(scheduler)) == [0, 1]
        assert scheduler.restart() == []
    scheduler.add(greedy(2, [5]))
    step = plan(scheduler)
    assert request_ids(step) == [0]
    scheduler.update(StepOutput(step.step_id, [40]))
    assert request_ids(plan(scheduler)) == [1]
    (poison_requests,) = scheduler.restart()
    assert poison_requests.id == 1
    scheduler.abort(poison_requests, RequestStatus.FINISHED_ERROR)
    assert request_ids(plan(scheduler)) == [0, 2]


def test_a_suspect_takes_the_blocks_it_needs_from_others() -> None:
    limits = msgspec.structs.replace(LIMITS, num_blocks=6)
    scheduler = Scheduler(SchedulerConfig(), limits, hash_key=b"key")
    scheduler.add(greedy(0, [1] * 7))
    scheduler.add(greedy(1, [2] * 7))
    for _ in range(MAX_CRASHES - 1):
        assert request_ids(plan(scheduler)) == [0, 1]
        scheduler.restart()
    step = plan(scheduler)
    assert request_ids(step) == [0]
    scheduler.update(StepOutput(step.step_id, [40]))
    assert request_ids(plan(scheduler)) == [1]
    assert scheduler.stats.running == 2


def test_a_step_ahead_of_a_crash_blames_both() -> None:
    """Either of the two may be the cause."""
    limits = msgspec.structs.replace(LIMITS, resolves_placeholders=True)
    scheduler = Scheduler(SchedulerConfig(), limits, hash_key=b"key")
    first, second = greedy(0, [1, 2], max_tokens=1), greedy(1, [3, 4])
    scheduler.add(first)
    plan(scheduler)
    scheduler.add(second)
    assert request_ids(plan(scheduler)) == [1]
    scheduler.restart()
    assert (first.num_crashes, second.num_crashes) == (1, 1)


def test_a_lost_machine_is_no_fault_of_a_request() -> None:
    scheduler = Scheduler(SchedulerConfig(), LIMITS, hash_key=b"key")
    request = greedy(0, [1, 2, 3])
    scheduler.add(request)
    for _ in range(MAX_CRASHES + 1):
        plan(scheduler)
        assert scheduler.restart(blame=False) == []
    assert request.num_crashes == 0
