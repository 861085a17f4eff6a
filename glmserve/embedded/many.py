"""Answers many requests, so many at a time, with a progress bar."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress:
    """A bar on a terminal or in a notebook: requests, tokens per second, time left.

    Args:
        total: None if it is not known.
        is_shown: None: if there is someone to see it.
    """

    def __init__(self, total: int | None, is_shown: bool | None) -> None:
        shown = _has_viewer() if is_shown is None else is_shown
        self._bar = tqdm(total=total, unit="request", disable=not shown)
        self._begin = time.perf_counter()
        self._tokens = 0

    def add(self, result: Any) -> None:
        """Count a result."""
        usage = getattr(result, "usage", None)
        self._tokens += usage.completion_tokens if usage is not None else 0
        if self._tokens:
            rate = self._tokens / (time.perf_counter() - self._begin)
            self._bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()


async def answer_all(
    items: Iterable[Item],
    answer: Callable[[Item], Awaitable[Result]],
    at_a_time: int,
    progress: Progress,
) -> list[Result]:
    """The results in the order of the items. The items are taken as they are needed.

    Args:
        at_a_time: requests that wait or run at once.
        progress: shows how far it is; closed at the end.

    Raises:
        Exception: the first that an answer raises, with a note that says for which item. The other
            requests are then cancelled.
    """
    results: dict[int, Result] = {}
    numbered = enumerate(items)

    async def work() -> None:
        for number, item in numbered:
            try:
                results[number] = await answer(item)
            except Exception as error:
                error.add_note(f"of item {number}")
                raise
            progress.add(results[number])

    try:
        async with one_error(), asyncio.TaskGroup() as group:
            for _ in range(at_a_time):
                group.create_task(work())
    finally:
        progress.close()
    return [results[number] for number in range(len(results))]


@asynccontextmanager
async def one_error() -> AsyncIterator[None]:
    """Raise the first error of a task group as it is."""
    try:
        yield
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _has_viewer() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules
