"""Work that would hold up every stream if the event loop did it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_LONG = 4096
"""Characters or tokens from which on a thread does the work."""

Result = TypeVar("Result")


async def offload(work: Callable[[], Result], size: int) -> Result:
    """Run tokenizer work, off the event loop if it may take long.

    Args:
        size: characters or tokens that it goes through.
    """
    if size < _LONG:
        return work()
    return await asyncio.to_thread(work)
