"""Clients that leave before their answer is complete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

ClientSignal = Callable[[], Awaitable[None]]
"""Waits until the client has closed its connection."""


class ClientGoneError(Exception):
    """The client has closed its connection; there is no one left to answer."""


async def never() -> None:
    """The ClientSignal of a client that stays."""
    await asyncio.Event().wait()


def either(client_left: ClientSignal, event: asyncio.Event) -> ClientSignal:
    """A signal that waits until the client leaves or the event is set."""

    async def wait() -> None:
        waiting = [asyncio.ensure_future(client_left()), asyncio.ensure_future(event.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    return wait


async def unless_client_leaves(
    client_left: ClientSignal, work: Coroutine[Any, Any, Result], at_most: float | None = None
) -> Result | None:
    """Do the work, and cancel it when the client leaves or when time is up.

    Args:
        at_most: seconds; None: no limit.

    Returns:
        The result; None if time was up.

    Raises:
        ClientGoneError: the client left first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(client_left())
    try:
        await asyncio.wait((working, leaving), timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if leaving.done():
            raise ClientGoneError
        return None
    finally:
        working.cancel()
        leaving.cancel()
