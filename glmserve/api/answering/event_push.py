"""Writes the events of a stream in callbacks of the event loop: no task wakes for each token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from glmserve.api.answering.outcome import AnswerStream


class EventSink(Protocol):
    """Where events are written."""

    @property
    def takes_more(self) -> bool:
        """Whether to write now: the client reads what was written before."""
        ...

    def write(self, data: bytes) -> None:
        """Write events, without waiting."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back in the next turn of the event loop. The callback must not raise."""
        ...


async def push_events(stream: AnswerStream, sink: EventSink) -> None:
    """Write events as they come, until the stream is over or the sink takes no more.

    A callback of the event loop writes what has arrived in one step; the task of the caller sleeps
    meanwhile. If the loop is late, a callback finds the tokens of several steps.
    """
    if not stream.is_over:
        push = _Push(stream, sink)
        try:
            await push.ended
        finally:
            stream.listen(None)


class _Push:
    __slots__ = ("_is_scheduled", "_sink", "_stream", "ended")

    def __init__(self, stream: AnswerStream, sink: EventSink) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stream = stream
        self._sink = sink
        self._is_scheduled = False
        stream.listen(self._schedule)
        if stream.is_ready:
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._sink.call_soon(self._write)

    def _write(self) -> None:
        self._is_scheduled = False
        if self.ended.done():
            return
        try:
            if not self._sink.takes_more:
                self.ended.set_result(None)
                return
            if data := self._stream.take_all():
                self._sink.write(data)
            if self._stream.is_over:
                self.ended.set_result(None)
            elif self._stream.is_ready:
                self._schedule()
        except Exception as error:
            self.ended.set_exception(error)
