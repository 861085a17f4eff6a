"""Times by which the other end of a connection must have done something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_HELD_UP = 1.0
"""Seconds by which a timer that comes late shows that the event loop was busy."""


class Deadline:
    """Calls `expire` unless it is moved or lifted in time.

    Moving it later is an assignment: the timer that runs already looks again when it is due.
    """

    __slots__ = ("_at", "_expire", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._at is not None

    def set(self, at: float) -> None:
        """Expire at this time of the loop's clock, whatever was set before."""
        self._at = at
        if self._timer is None or at < self._timer.when():
            self._start(at)

    def lift(self) -> None:
        """Never expire."""
        self._at = None

    def forget(self) -> None:
        """Never expire, and hold on to nothing."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return
        now = self._loop.time()
        if now - self._at > _HELD_UP:  # what has come meanwhile is read only after the timers
            self._at = now + _HELD_UP
        if now < self._at:
            self._start(self._at)
        else:
            self._at = None
            self._expire()


class DrainWatch:
    """Cuts off a client that does not take what was written to it.

    Args:
        seconds: between two looks; 0 never looks.
        least_rate: bytes per second that it must take on average between them.
    """

    __slots__ = ("_least", "_left", "_loop", "_seconds", "_timer", "_transport")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        seconds: float,
        least_rate: float,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._seconds = seconds
        self._least = seconds * least_rate
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch until all is written, or until `stop`."""
        self._left = self._transport.get_write_buffer_size()
        if self._timer is None and self._seconds and self._left:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        left = self._transport.get_write_buffer_size()
        if left and self._left - left < self._least:
            self._transport.abort()
        else:
            self.start()
