"""When the next step is planned for a runner that waits for each step."""

from __future__ import annotations

import asyncio
import time

import pytest

from glmserve.engine.late_planning import LatePlanning


@pytest.mark.parametrize("expected", [None, 0.06, 4.0])
async def test_steps_that_are_long_or_unknown_have_none_behind_them(expected: float | None) -> None:
    woken = asyncio.Event()
    assert not LatePlanning(woken.set).is_time(time.perf_counter() - 100, expected)
    await asyncio.sleep(0.01)
    assert not woken.is_set()


@pytest.mark.parametrize("since", [0.0395, 0.04, 3.0])
async def test_the_next_step_is_planned_shortly_before_a_step_ends(since: float) -> None:
    late = LatePlanning(asyncio.Event().set)
    assert late.is_time(time.perf_counter() - since, 0.04)


async def test_it_wakes_the_caller_in_time() -> None:
    woken = asyncio.Event()
    began = time.perf_counter() + 0.2  # so that a busy machine is not late for it
    assert not LatePlanning(woken.set).is_time(began, 0.05)
    await woken.wait()
    assert time.perf_counter() - began > 0.04


async def test_only_the_last_question_counts() -> None:
    calls: list[int] = []
    late = LatePlanning(lambda: calls.append(1))
    for _ in range(5):
        assert not late.is_time(time.perf_counter() + 0.1, 0.03)
    late.cancel()
    await asyncio.sleep(0.2)
    assert calls == []
