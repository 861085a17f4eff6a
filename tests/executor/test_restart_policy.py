"""How often and how soon: plain numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glmserve.executor.restart_policy import WINDOW, RestartPolicy


def pauses(policy: RestartPolicy, *times: float, useful: bool = False) -> list[float | None]:
    return [policy.next_pause(time, was_useful=useful, excused=0) for time in times]


def test_pauses_grow_while_workers_come_to_nothing() -> None:
    policy = RestartPolicy(10)
    assert pauses(policy, *range(8)) == [0, 1, 2, 4, 8, 16, 30, 30]
    assert pauses(policy, 8, useful=True) == [0]
    assert pauses(policy, 9) == [1]


def test_a_worker_that_was_useful_is_replaced_at_once() -> None:
    assert pauses(RestartPolicy(5), 1, 2, 3, useful=True) == [0, 0, 0]


def test_none_at_all() -> None:
    assert pauses(RestartPolicy(0), 0) == [None]


def test_old_restarts_do_not_count() -> None:
    assert pauses(RestartPolicy(2), 0, 1, 2, WINDOW + 1, useful=True) == [0, 0, None, 0]


def test_explained_deaths_do_not_count() -> None:
    policy = RestartPolicy(3)
    for time in range(0, 30, 3):
        assert None not in pauses(policy, time, time + 1, useful=True)
        assert policy.next_pause(time + 2, was_useful=True, excused=3) is not None


@given(
    max_restarts=st.integers(0, 6),
    steps=st.lists(st.tuples(st.floats(0, 300), st.booleans()), max_size=40),
)
def test_never_more_than_allowed_in_any_window(
    max_restarts: int, steps: list[tuple[float, bool]]
) -> None:
    policy = RestartPolicy(max_restarts)
    now, granted = 0.0, []
    for elapsed, was_useful in steps:
        now += elapsed
        if policy.next_pause(now, was_useful=was_useful, excused=0) is None:
            break
        granted.append(now)
        assert sum(now - time < WINDOW for time in granted) <= max_restarts
