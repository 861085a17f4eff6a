"""Servers under a virtual clock, whose times can be computed by hand."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.capacity.calibration import FORMAT, Calibration
from glmserve.capacity.lengths import parse_length
from glmserve.capacity.report import Plan, Targets, percentile, table
from glmserve.capacity.simulation import _HTTP_SECONDS, Outcome, Simulation
from glmserve.capacity.step_costs import Curve, StepCosts
from glmserve.capacity.workload import Load, dealt, drawn
from glmserve.config import SchedulerConfig
from glmserve.contract.step import RunnerLimits

LIMITS = RunnerLimits(
    num_blocks=200, block_size=4, max_sequences=8, max_step_tokens=16, max_context=400
)
COSTS = StepCosts(
    decode=Curve((1, 8), (1.0, 8.0)),  # a second for each row
    prefill=Curve((1, 16), (2.0, 32.0)),  # two seconds for each token
    decode_context=0.0,
    prefill_context=0.0,
)


def calibration(limits: RunnerLimits = LIMITS, costs: StepCosts = COSTS) -> Calibration:
    return Calibration(FORMAT, "0", "command", "device", "float32", limits, costs)


def load(time: float, prompt: int, output: int) -> Load:
    return Load(time, [1000 * round(time) + i for i in range(prompt)], output)


def run(
    *loads: Load, limits: RunnerLimits = LIMITS, batch: int = 64, costs: StepCosts = COSTS
) -> Outcome:
    config = SchedulerConfig(max_batch_size=batch, max_step_time=0)
    return Simulation(calibration(limits, costs), config, loads).run()


def test_one_request() -> None:
    """A prompt of 10 takes 20 s, and each further token 1 s."""
    outcome = run(load(5.0, 10, 4))
    assert outcome.first_tokens == [pytest.approx(20 + _HTTP_SECONDS)]
    assert outcome.gaps == [1.0, 1.0, 1.0]
    assert (outcome.num_tokens, outcome.busy, outcome.end) == (4, 23.0, 28.0)


def test_steps_differ_as_they_were_measured_to_differ() -> None:
    """And the same load takes the same time again."""
    costs = msgspec.structs.replace(COSTS, spread=(0.5, 1.0, 1.0, 1.5))
    outcome = run(load(5.0, 10, 200), costs=costs)
    assert set(outcome.gaps) == {0.5, 1.0, 1.5}
    assert sorted(outcome.gaps)[80:120] == [1.0] * 40
    assert run(load(5.0, 10, 200), costs=costs) == outcome


def test_a_long_prompt_comes_in_chunks() -> None:
    """32 tokens are two steps of 16."""
    assert run(load(0.0, 32, 1)).first_tokens == [pytest.approx(64 + _HTTP_SECONDS)]


def test_a_second_request_waits_for_the_step_that_runs() -> None:
    """It comes at 3 s, the first one's prompt takes until 20 s, and a step of both until 41 s."""
    outcome = run(load(0.0, 10, 2), load(3.0, 10, 1))
    assert outcome.first_tokens == [
        pytest.approx(20 + _HTTP_SECONDS),
        pytest.approx(20 + 22 - 3 + _HTTP_SECONDS),
    ]
    assert outcome.gaps == [22.0]


def test_a_batch_size_of_one_serves_one_by_one() -> None:
    outcome = run(load(0.0, 10, 3), load(1.0, 10, 1), batch=1)
    assert outcome.first_tokens[1] == pytest.approx(22 + 20 - 1 + _HTTP_SECONDS)


def test_the_prefix_cache_saves_what_it_would_save() -> None:
    """The second prompt is the first one again; 8 of its 10 tokens are in full blocks."""
    outcome = run(load(0.0, 10, 1), load(30.0, 10, 1)._replace(prompt_ids=list(range(10))))
    assert outcome.first_tokens[1] == pytest.approx(4 + _HTTP_SECONDS)


def test_what_never_fits_is_counted() -> None:
    outcome = run(load(0.0, 500, 1), load(1.0, 4, 1))
    assert (outcome.num_refused, len(outcome.first_tokens)) == (1, 1)


def test_a_small_cache_costs_preemptions() -> None:
    small = RunnerLimits(
        num_blocks=30, block_size=4, max_sequences=8, max_step_tokens=64, max_context=100
    )
    loads = [load(float(i), 8, 60) for i in range(4)]
    assert run(*loads, limits=small).num_preemptions > 0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=20
    ),
    st.integers(1, 3),
)
def test_every_token_comes_once(found: list[tuple[float, int, int]], ahead: int) -> None:
    limits = RunnerLimits(
        num_blocks=200,
        block_size=4,
        max_sequences=8,
        max_step_tokens=16,
        max_context=400,
        steps_in_flight=ahead,
    )
    loads = sorted((load(*one) for one in found), key=lambda one: one.time)
    outcome = run(*loads, limits=limits)
    assert outcome.num_tokens == sum(one.num_output_tokens for one in loads)
    assert len(outcome.first_tokens) == len(loads)
    assert min([*outcome.first_tokens, *outcome.gaps]) > 0
    assert outcome.busy <= outcome.end * ahead


def test_drawn_loads_are_the_same_for_the_same_seed() -> None:
    lengths = parse_length("uniform:5:9"), parse_length("normal:20:4")
    first, again = (drawn(2.0, 400, *lengths, seed=1) for _ in range(2))
    assert first == again
    assert first != drawn(2.0, 400, *lengths, seed=2)
    assert first[-1].time == pytest.approx(200, rel=0.2)
    assert {len(one.prompt_ids) for one in first} == {5, 6, 7, 8, 9}


def test_loads_are_dealt_out_in_turn() -> None:
    loads = [load(float(i), 1, 1) for i in range(5)]
    assert [[one.time for one in share] for share in dealt(loads, 2)] == [[0, 2, 4], [1, 3]]


@pytest.mark.parametrize("text", ["0", "-1", "x", "uniform:5:4", "normal:5:0", "uniform:5", "1:2"])
def test_lengths_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_length(text)


def test_lengths() -> None:
    rng = random.Random(0)
    assert parse_length("7")(rng) == 7
    assert {parse_length("uniform:1:3")(rng) for _ in range(99)} == {1, 2, 3}
    assert min(parse_length("normal:1:9")(rng) for _ in range(99)) == 1


def test_percentiles() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3
    assert percentile([1.0, 2.0], 0.95) == 2


def test_targets_and_the_table() -> None:
    plan = Plan(1, 64, [run(load(0.0, 10, 4))])
    assert plan.meets(Targets(None, None))
    assert plan.meets(Targets(21.0, 1.0))
    assert not plan.meets(Targets(19.0, None))
    assert not plan.meets(Targets(None, 0.5))
    head, line = table([plan], Targets(21.0, 1.0))
    assert head.split()[0] == "servers"
    assert line.split()[:2] == ["1", "64"]
    assert line.endswith("kept")
    refused = Plan(1, 64, [run(load(0.0, 500, 1))])
    assert not refused.meets(Targets(None, None))
    assert list(table([refused], Targets(None, None)))[1].endswith("1 requests do not fit")


def test_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from glmserve.capacity.report import plot

    plans = [Plan(n, 64, [run(load(0.0, 10, 4))]) for n in (1, 2)]
    plot(plans, Targets(1.0, None), tmp_path / "plan.svg")
    assert "<svg" in (tmp_path / "plan.svg").read_text()
