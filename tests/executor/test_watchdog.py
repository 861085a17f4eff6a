"""A watchdog reports a time-out if there is no progress, and only then."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator

import pytest

from glmserve.executor.watchdog import Watchdog


async def times_out(progress: Iterable[int | None]) -> bool:
    """Whether it reports a time-out before its checks have read all of `progress`."""
    timed_out = asyncio.Event()
    is_over = asyncio.Event()
    values: Iterator[int | None] = iter(progress)

    def check() -> int | None:
        seen = next(values, 0)
        if seen == 0:
            is_over.set()
            return None
        return seen

    watchdog = Watchdog(0.05, check, timed_out.set)
    events = [asyncio.create_task(event.wait()) for event in (timed_out, is_over)]
    await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
    watchdog.stop()
    for event in events:
        event.cancel()
    return timed_out.is_set()


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ([3] * 11, True),
        ([3] * 10, False),
        ([None] * 15, False),
        ([3] * 10 + [4] * 10, False),
        ([3] * 5 + [None] + [3] * 10, False),
        ([None] * 3 + [7] * 20, True),
    ],
)
async def test_times_out_after_ten_checks_without_progress(
    progress: list[int | None], expected: bool
) -> None:
    assert await times_out(progress) is expected


async def test_checks_nothing_without_a_timeout() -> None:
    def check() -> int:
        raise AssertionError("it checked")

    Watchdog(0.0, check, check)
    await asyncio.sleep(0.01)


async def test_a_pause_of_this_process_counts_as_one_check() -> None:
    """However long it is."""
    numbers = itertools.chain([5, 5], [6] * 3)

    def slow_progress() -> Iterator[int]:
        for number in numbers:
            time.sleep(0.1)
            yield number

    assert not await times_out(slow_progress())
