"""Keeps long work off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

_LARGE = 4096
"""Characters or tokens from which on a thread does the work."""

_MAX_WAITING = 64
"""Threads that wait for something at once."""

Result = TypeVar("Result")


async def run_in_thread_if_large(
    work: Callable[[], Result], size: int, *, always: bool = False
) -> Result:
    """Run `work` on a thread if it may take long, otherwise here.

    Args:
        size: characters or tokens that the work goes through.
        always: the work waits for something, however small it is. It has threads of its own, so
            that other work does not wait with it.
    """
    if always:
        return await asyncio.get_running_loop().run_in_executor(_waiting_threads(), work)
    if size < _LARGE:
        return work()
    return await asyncio.to_thread(work)


@cache
def _waiting_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MAX_WAITING, thread_name_prefix="waiting")
