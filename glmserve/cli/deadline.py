"""Time limits for the client of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MIN_BYTES_PER_SECOND = 500.0
"""Average rate at which a client must send a body and read a response, bytes per second."""

_MAX_TIMER_DELAY = 1.0
"""Seconds. If a timer is called later than this, the event loop was busy."""


class Deadline:
    """Calls `expire` at its time, unless it is moved or cleared before.

    Moving it to a later time costs an assignment: the running timer checks the time again when it
    fires.
    """

    __slots__ = ("_at", "_expire", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether it has a time."""
        return self._at is not None

    def set(self, at: float) -> None:
        """Expire at this time of the loop's clock, seconds. Replaces an earlier setting."""
        self._at = at
        if self._timer is None or at < self._timer.when():
            self._start(at)

    def clear(self) -> None:
        """Do not expire."""
        self._at = None

    def close(self) -> None:
        """Do not expire, and cancel the timer."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._at is None:
            return
        now = self._loop.time()
        if now - self._at > _MAX_TIMER_DELAY:  # pending data is read after timers
            self._at = now + _MAX_TIMER_DELAY
        if now < self._at:
            self._start(self._at)
        else:
            self._at = None
            self._expire()


class DrainWatch:
    """Closes the connection of a client that does not read what was written to it.

    Args:
        seconds: time between two checks; 0: no checks.
        min_rate: bytes per second that the client must read on average between two checks.
    """

    __slots__ = ("_loop", "_min_sent", "_num_unsent", "_seconds", "_timer", "_transport")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        seconds: float,
        min_rate: float,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._seconds = seconds
        self._min_sent = seconds * min_rate
        self._num_unsent = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Check until everything is sent, or until `stop`."""
        self._num_unsent = self._transport.get_write_buffer_size()
        if self._timer is None and self._seconds and self._num_unsent:
            self._timer = self._loop.call_later(self._seconds, self._check)

    def stop(self) -> None:
        """Check no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        num_unsent = self._transport.get_write_buffer_size()
        if num_unsent and self._num_unsent - num_unsent < self._min_sent:
            self._transport.abort()
        else:
            self.start()
