"""Expires requests that have waited too long in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class QueueTimer:
    """Calls `expire` with the id of each request that is not forgotten in time.

    All requests have the same timeout, so the oldest expires first and one timer is enough.

    Args:
        timeout: seconds; 0: no request expires.
        expire: called on the event loop with a request id.
    """

    def __init__(self, timeout: float, expire: Callable[[int], None]) -> None:
        self._timeout = timeout
        self._expire = expire
        self._deadlines: dict[int, float] = {}  # by id, the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, request_id: int) -> None:
        """Start the time of a new request."""
        if self._timeout:
            loop = asyncio.get_running_loop()
            self._deadlines[request_id] = loop.time() + self._timeout
            if self._timer is None:
                self._timer = loop.call_later(self._timeout, self._expire_due)

    def forget(self, request_id: int) -> None:
        """Stop the time of a request that has begun or ended."""
        self._deadlines.pop(request_id, None)

    def close(self) -> None:
        """Expire no more requests."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _expire_due(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._deadlines:
            request_id, deadline = next(iter(self._deadlines.items()))
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._expire_due)
                return
            del self._deadlines[request_id]
            self._expire(request_id)
