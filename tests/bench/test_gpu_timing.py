"""How often work is repeated, and on how much memory."""

from __future__ import annotations

import pytest

from gpu_timing import MOST_LAUNCHES, Timer, rotation, seconds_per_launch

L2 = 60 * 10**6
FREE = 100 * 10**9


@pytest.mark.parametrize(
    ("touched", "held", "free", "sets"),
    [
        (10**9, 10**9, FREE, 4),  # a set alone exceeds the cache; rotate all the same
        (20 * 10**6, 20 * 10**6, FREE, 12),
        (8192, 8192, FREE, 64),
        (10**9, 20 * 10**9, FREE, 2),  # no more fit in half the memory
        (10**9, 80 * 10**9, FREE, 1),
    ],
)
def test_rotation(touched: int, held: int, free: int, sets: int) -> None:
    assert rotation(touched, held, L2, free) == sets


@pytest.mark.parametrize("seconds", [2e-6, 1e-4, 5e-3])
def test_the_time_of_a_launch(timer: Timer, seconds: float) -> None:
    order: list[int] = []

    def launch(number: int) -> float:
        order.append(number)
        return seconds

    launches = [lambda number=number: launch(number) for number in range(4)]
    found = seconds_per_launch(launches, timer)
    assert seconds < found < 1.03 * seconds
    assert order == [0, 1, 2, 3] * (len(order) // 4)


def test_many_sets_are_not_multiplied(timer: Timer) -> None:
    seconds_per_launch([lambda: 1e-6] * 100, timer)
    assert timer.graphs == [100]
    seconds_per_launch([lambda: 1e-6] * 3, timer)
    assert MOST_LAUNCHES - 3 < timer.graphs[-1] <= MOST_LAUNCHES
