"""Keeps long work off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_LARGE = 4096
"""Characters or tokens from which on a thread does the work."""

Result = TypeVar("Result")


async def run_in_thread_if_large(
    work: Callable[[], Result], size: int, *, always: bool = False
) -> Result:
    """Run `work` on a thread if it may take long, otherwise here.

    Args:
        size: characters or tokens that the work goes through.
        always: the work waits for something, however small it is.
    """
    if size < _LARGE and not always:
        return work()
    return await asyncio.to_thread(work)
