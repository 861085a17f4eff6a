"""Sends an answer's events as they come."""

from __future__ import annotations

import anyio
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.types import Receive, Scope, Send

from glmserve.api.answering.outcome import AnswerStream

# It would cut every stream the moment a signal comes; ours end in their own time (cli.server).
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

_LAST_WORD = 1.0
"""Seconds for a client to take notice that its stream has ended; it may be long gone."""


class EventStreamResponse(EventSourceResponse):
    """Sends a stream, and closes it however the response ends.

    A generator that was never started runs no `finally`; this response closes the stream then too.
    """

    def __init__(self, stream: AnswerStream) -> None:
        super().__init__(stream.events(), sep="\n", headers=stream.headers)
        del self.headers["connection"]  # the HTTP server's to decide
        self.headers["Cache-Control"] = "no-cache, no-store"
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends, or until a later connection goes on with it."""
        try:
            with anyio.CancelScope() as sending:
                self._stream.on_supersede(sending.cancel)
                await super().__call__(scope, receive, send)
            if sending.cancelled_caught and self._stream.has_begun:
                with anyio.move_on_after(_LAST_WORD):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._stream.close()
