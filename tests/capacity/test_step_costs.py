"""Times of steps from measured curves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.capacity.step_costs import Curve, StepCosts

CURVE = Curve((1, 4, 16), (0.010, 0.013, 0.025))


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [(1, 0.010), (4, 0.013), (16, 0.025), (2, 0.011), (10, 0.019), (28, 0.037)],
)
def test_points_between_and_beyond(rows: int, seconds: float) -> None:
    assert CURVE.at(rows) == pytest.approx(seconds)


def test_a_curve_of_one_point() -> None:
    assert Curve((8,), (0.5,)).at(1) == Curve((8,), (0.5,)).at(99) == 0.5


COSTS = StepCosts(
    decode=Curve((1, 2), (1.0, 1.5)),
    prefill=Curve((2, 10), (2.0, 10.0)),
    decode_context=0.01,
    prefill_context=0.001,
)


def test_decodes_pay_for_their_contexts() -> None:
    assert COSTS.of_chunks([(1, 99), (1, 49)]) == pytest.approx(1.5 + 0.01 * (100 + 50))


def test_a_chunk_pays_for_what_it_attends_to() -> None:
    """4 tokens behind 10: each sees the 10, and 1 + 2 + 3 + 4 of its own."""
    assert COSTS.of_chunks([(4, 10)]) == pytest.approx(4.0 + 0.001 * (40 + 10))


def test_decodes_beside_a_chunk() -> None:
    seconds = COSTS.of_chunks([(4, 0), (1, 9)])
    assert seconds == pytest.approx(5.0 + 0.001 * 10 + 0.01 * 10)


@given(st.lists(st.tuples(st.integers(1, 600), st.integers(0, 4000)), min_size=1, max_size=40))
def test_more_work_takes_no_less_time(chunks: list[tuple[int, int]]) -> None:
    assert COSTS.of_chunks([*chunks, (1, 0)]) >= COSTS.of_chunks(chunks) > 0
