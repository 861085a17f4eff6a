"""What a reading costs, on distributions made by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.contract.step import Logprobs, RunnerInfo, RunnerLimits
from glmserve.evaluation import Reading, compare
from glmserve.evaluation.cost import divergence

INFO = RunnerInfo(RunnerLimits(1, 1, 1, 1, 1), "none", "float32", 0, 0, 0)

odds = st.lists(st.floats(0.01, 1), min_size=6, max_size=6).map(
    lambda parts: [part / sum(parts) for part in parts]
)


def logprobs(distribution: list[float], own: int = 0, top: int = 6) -> Logprobs:
    """What a runner reports of a distribution over ids 0, 1, ..."""
    order = sorted(range(len(distribution)), key=lambda i: -distribution[i])[:top]
    return Logprobs(math.log(distribution[own]), order, [math.log(distribution[i]) for i in order])


def test_means() -> None:
    exact = Reading(INFO, [logprobs([0.5, 0.25, 0.25]), logprobs([0.125, 0.8, 0.075])])
    found = Reading(INFO, [logprobs([0.25, 0.5, 0.25]), logprobs([0.125, 0.8, 0.075])])
    assert exact.perplexity == pytest.approx(4)
    cost = compare(found, exact)
    assert cost.change == pytest.approx(math.log(2) / 2)
    assert cost.other_best == 0.5
    assert cost.divergence == pytest.approx((0.5 * math.log(2) - 0.25 * math.log(2)) / 2)


def test_a_text_that_is_impossible() -> None:
    assert Reading(INFO, [Logprobs(-math.inf, [0], [0.0])]).perplexity == math.inf


@given(odds, odds)
def test_divergence_of_all_tokens_is_exact(p: list[float], q: list[float]) -> None:
    exact = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert divergence(logprobs(q), logprobs(p)) == pytest.approx(exact, abs=1e-5)


@given(odds, odds, st.integers(1, 5))
def test_divergence_of_some_tokens_is_less(p: list[float], q: list[float], top: int) -> None:
    known = divergence(logprobs(q, top=top), logprobs(p, top=top))
    assert -1e-5 <= known <= divergence(logprobs(q), logprobs(p)) + 1e-5


def test_ids_that_are_never_sampled_have_no_odds() -> None:
    one = Logprobs(0.0, [3, 4], [0.0, -math.inf])
    assert divergence(one, one) == pytest.approx(0)
