"""The events of a response that is streamed from the background, for any number of readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class EventLog:
    """All events of one response, in order: an event's index is its sequence_number."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes."""
        self._events: list[bytes] = []
        self._is_complete = False
        self._changed = asyncio.Event()

    def add(self, event: bytes) -> None:
        """Add an event, and wake readers."""
        self._events.append(event)
        self.size += len(event)
        self._wake()

    def end(self) -> None:
        """No more events will come."""
        self._is_complete = True
        self._wake()

    async def read(self, start: int = 0) -> AsyncIterator[bytes]:
        """The events from index `start` on, until the last one."""
        while True:
            while start < len(self._events):
                yield self._events[start]
                start += 1
            if self._is_complete:
                return
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
