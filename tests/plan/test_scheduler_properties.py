"""Whatever arrives, in whatever cache: nothing leaks, nothing is shared while written, all end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.config import SchedulerConfig
from glmserve.contract.prompt_layout import PromptMarks
from glmserve.contract.step import RunnerLimits
from glmserve.request import RequestStatus, SamplingParams
from glmserve.scheduler import Scheduler
from glmserve.scheduler.drafter import AdaptiveDrafter, MeasuredDrafter
from glmserve.scheduler.spare_time import SpareTime
from support.arrivals import arrivals, check_reports, check_updates, prompts, runner_limits
from support.fakes import expected_output
from support.simulation import Arrival, Simulation, oracle, output_alone, output_of

GREEDY = SamplingParams(max_tokens=0)


def simulate(
    limits: RunnerLimits, config: SchedulerConfig, plan: list[Arrival], times: Sequence[float] = ()
) -> Scheduler:
    """Run all arrivals to their end; each request says what it would say alone."""
    simulation = Simulation(limits, config, plan, times=times)
    simulation.run()
    for request, arrival in simulation.requests:
        expected, end = output_alone(arrival)
        output = output_of(request)
        check_updates(simulation.updates[request.id], output)
        if request.status is RequestStatus.FINISHED_ABORTED:
            assert output == expected[: len(output)]
        else:
            assert (output, request.status) == (expected, end)
            check_reports(request)
    stats = simulation.scheduler.stats
    assert (stats.running, stats.waiting, stats.used_blocks) == (0, 0, 0)
    return simulation.scheduler


@settings(max_examples=300)
@given(
    limits=runner_limits(),
    max_batch_size=st.integers(1, 8),
    prefix_cache=st.booleans(),
    plan=st.lists(arrivals, min_size=1, max_size=12),
)
def test_every_request_gets_its_own_text_and_no_block_leaks(
    limits: RunnerLimits, max_batch_size: int, prefix_cache: bool, plan: list[Arrival]
) -> None:
    config = SchedulerConfig(
        max_batch_size=max_batch_size, max_step_tokens=64, prefix_cache=prefix_cache
    )
    simulate(limits, config, plan)


@settings(max_examples=200)
@given(
    limits=runner_limits(),
    max_batch_size=st.integers(1, 8),
    speculative_tokens=st.sampled_from([0, 0, 3]),
    plan=st.lists(arrivals, min_size=1, max_size=12),
)
def test_steps_that_requests_share_with_those_in_the_background(
    limits: RunnerLimits, max_batch_size: int, speculative_tokens: int, plan: list[Arrival]
) -> None:
    config = SchedulerConfig(max_batch_size, 64, speculative_tokens=speculative_tokens)
    with mock.patch.object(SpareTime, "is_left", True):
        simulate(limits, config, plan)


@settings(max_examples=300)
@given(
    limits=runner_limits(),
    max_batch_size=st.integers(1, 8),
    speculative_tokens=st.integers(1, 6),
    error_every=st.sampled_from([1, 2, 3, 5, 50]),
    plan=st.lists(arrivals, min_size=1, max_size=12),
)
def test_drafts_change_nothing(
    limits: RunnerLimits,
    max_batch_size: int,
    speculative_tokens: int,
    error_every: int,
    plan: list[Arrival],
) -> None:
    config = SchedulerConfig(max_batch_size, 64, speculative_tokens=speculative_tokens)
    with mock.patch.object(AdaptiveDrafter, "guess", oracle(error_every)):
        stats = simulate(limits, config, plan).stats
    assert 0 <= stats.accepted <= stats.drafted


@settings(max_examples=100)
@given(
    limits=runner_limits(),
    error_every=st.sampled_from([1, 2, 50]),
    times=st.lists(st.floats(0.001, 0.1), min_size=1, max_size=20),
    plan=st.lists(arrivals, min_size=1, max_size=8),
)
def test_times_of_steps_decide_only_how_many_drafts_there_are(
    limits: RunnerLimits, error_every: int, times: list[float], plan: list[Arrival]
) -> None:
    config = SchedulerConfig(8, 64, speculative_tokens=None)
    with mock.patch.object(MeasuredDrafter, "guess", oracle(error_every)):
        stats = simulate(limits, config, plan, times).stats
    assert 0 <= stats.accepted <= stats.drafted


@settings(max_examples=50)
@given(
    budget=st.integers(1, 9),
    ahead=st.booleans(),
    plan=st.lists(arrivals, min_size=1, max_size=6),
)
def test_any_token_budget_gives_the_same_text(
    budget: int, ahead: bool, plan: list[Arrival]
) -> None:
    limits = RunnerLimits(
        num_blocks=30,
        block_size=4,
        max_sequences=8,
        max_step_tokens=budget,
        max_context=64,
        resolves_placeholders=ahead,
    )
    simulate(limits, SchedulerConfig(max_batch_size=8, max_step_tokens=64), plan)


MARKS = PromptMarks(gmask_id=200, mask_id=201, sop_id=202)


@st.composite
def marked_arrivals(draw: st.DrawFn) -> Arrival:
    """A context with its mask, then <sop>, then perhaps the beginning of an answer."""
    token = st.integers(0, 2)
    mask = draw(st.sampled_from([[200], [201], [201, 200]]))
    parts = [draw(st.lists(token, max_size=6)), mask, draw(st.lists(token, max_size=6))]
    answer = draw(st.lists(token, max_size=3))
    arrival = draw(arrivals)
    return replace(arrival, prompt=[*chain(*parts), 202, *answer], scored=False)


@settings(max_examples=100)
@given(limits=runner_limits(), plan=st.lists(marked_arrivals(), min_size=1, max_size=10))
def test_marked_prompts_are_computed_whole_and_every_step_knows_their_layout(
    limits: RunnerLimits, plan: list[Arrival]
) -> None:
    """FakeRunner compares each sequence's layout with its tokens."""
    limits = msgspec.structs.replace(
        limits, prompt_marks=MARKS, chunked_prefill=False, prefix_cache=False
    )
    simulate(limits, SchedulerConfig(max_batch_size=8, max_step_tokens=64), plan)


@settings(max_examples=50)
@given(
    prompts=st.lists(prompts(), min_size=4, max_size=8),
    max_tokens=st.integers(8, 12),
    ahead=st.booleans(),
)
def test_the_text_is_the_models_where_blocks_run_out(
    prompts: list[list[int]], max_tokens: int, ahead: bool
) -> None:
    params = msgspec.structs.replace(GREEDY, max_tokens=max_tokens)
    plan = [Arrival(0, prompt, params) for prompt in prompts]
    limits = RunnerLimits(
        num_blocks=10,
        block_size=4,
        max_sequences=8,
        max_step_tokens=64,
        max_context=40,
        resolves_placeholders=ahead,
    )
    simulate(limits, SchedulerConfig(), plan)
    for arrival in plan:
        assert output_alone(arrival)[0] == expected_output(arrival.prompt, max_tokens)
