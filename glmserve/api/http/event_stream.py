"""Sends an answer's events as they come."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping

import anyio
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.types import Message, Receive, Scope, Send

from glmserve.api.answering.event_push import EventSink, push_events
from glmserve.api.answering.outcome import AnswerStream

# It would cut every stream the moment a signal comes; ours end in their own time (cli.server).
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

# With --debug it would log the text of answers.
logging.getLogger("sse_starlette").setLevel(logging.INFO)

BODY_SINK = "glmserve.body"
"""An ASGI extension of our HTTP server: its `sink` is an EventSink for the response's body."""

_END_OF_STREAM_SECONDS = 1.0
"""Seconds for a client to take notice that its stream has ended; it may be long gone."""


class EventsResponse(EventSourceResponse):
    """Sends events as they come.

    Args:
        events: server-sent events, in bytes.
        headers: of the response.
    """

    def __init__(self, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(events, sep="\n")
        del self.headers["connection"]  # the HTTP server's to decide
        self.headers["Cache-Control"] = "no-cache, no-store"
        self.headers.update(headers)

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        """Send an event. The parent would make a cancel scope for each; no limit is set."""
        await send(message)


class EventStreamResponse(EventsResponse):
    """Sends a stream, and closes it however the response ends.

    A journaled stream also ends when a later connection goes on with it. A generator that was never
    started runs no `finally`; this response closes the stream even then.
    """

    def __init__(self, stream: AnswerStream) -> None:
        events = stream.events() if stream.is_journaled else self._merged_events()
        super().__init__(events, stream.headers)
        self._stream = stream
        self._sink: EventSink | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._sink = scope.get("extensions", {}).get(BODY_SINK, {}).get("sink")
        try:
            if self._stream.is_journaled:
                await self._send_until_superseded(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            self._stream.close()

    async def _merged_events(self) -> AsyncIterator[bytes]:
        """Events to send, as many at a time as there are. While the HTTP server has a sink that
        takes events, they go there."""
        while not self._stream.is_over:
            await self._stream.wait()
            if data := self._stream.take_all():
                yield data
            if self._sink is not None:
                await push_events(self._stream, self._sink)

    async def _send_until_superseded(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = False  # between the head and the last piece of the body

        async def watched_send(message: Message) -> None:
            nonlocal is_open
            is_open = message["type"] == "http.response.start" or message.get("more_body", False)
            await send(message)

        with anyio.CancelScope() as sending:
            self._stream.on_supersede(sending.cancel)
            await super().__call__(scope, receive, watched_send)
        if sending.cancelled_caught and is_open:
            with anyio.move_on_after(_END_OF_STREAM_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
