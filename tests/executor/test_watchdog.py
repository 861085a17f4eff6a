"""It barks when nothing moves, and only then."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator

import pytest

from glmserve.executor.watchdog import Watchdog


async def barks(progress: Iterable[int | None]) -> bool:
    """Whether it barks before the progress that it sees, look by look, is at its end."""
    barked = asyncio.Event()
    is_over = asyncio.Event()
    looks: Iterator[int | None] = iter(progress)

    def look() -> int | None:
        seen = next(looks, 0)
        if seen == 0:
            is_over.set()
            return None
        return seen

    watchdog = Watchdog(0.05, look, barked.set)
    events = [asyncio.create_task(event.wait()) for event in (barked, is_over)]
    await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
    watchdog.stop()
    for event in events:
        event.cancel()
    return barked.is_set()


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
async def test_it_barks_after_ten_looks_at_the_same(
    progress: list[int | None], expected: bool
) -> None:
    assert await barks(progress) is expected


async def test_it_sleeps_where_there_is_no_timeout() -> None:
    def look() -> int:
        raise AssertionError("it looked")

    Watchdog(0.0, look, look)
    await asyncio.sleep(0.01)


async def test_a_pause_of_this_process_is_one_look() -> None:
    """However long it is."""
    numbers = itertools.chain([5, 5], [6] * 3)

    def look() -> Iterator[int]:
        for number in numbers:
            time.sleep(0.1)
            yield number

    assert not await barks(look())
