"""Random keys that depend on seed and position alone."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from glmserve.scheduler.random import noise_key


@given(seed=st.integers(-(2**63), 2**63 - 1), position=st.integers(0, 2**31))
def test_in_range_and_repeatable(seed: int, position: int) -> None:
    assert 0 <= noise_key(seed, position) < 2**64
    assert noise_key(seed, position) == noise_key(seed, position)


def test_neighbouring_seeds_and_positions_are_unrelated() -> None:
    keys = [noise_key(seed, position) for seed in range(100) for position in range(100)]
    assert len(set(keys)) == len(keys)
    numbers = [key / 2**64 for key in keys]
    assert abs(sum(numbers) / len(numbers) - 0.5) < 0.01
    bins = [0] * 20
    for number in numbers:
        bins[int(number * 20)] += 1
    chi_square = sum((count - 500) ** 2 / 500 for count in bins)
    assert chi_square < 43.8  # 99.9 % of the chi-square distribution with 19 degrees of freedom
    correlation = sum((a - 0.5) * (b - 0.5) for a, b in pairwise(numbers)) / len(numbers) * 12
    assert abs(correlation) < 0.04
