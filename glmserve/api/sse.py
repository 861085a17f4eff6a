"""Server-sent events: one event per step, bytes made by hand because it is done per token."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.types import Receive, Scope, Send

from glmserve.api.choices import Generation
from glmserve.api.errors import body_of
from glmserve.errors import GlmserveError

# It would cut every stream the moment a signal comes; ours end in their own time (cli.server).
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

DONE = b"data: [DONE]\n\n"

encode_json = msgspec.json.Encoder().encode


def event(data: object) -> bytes:
    """One event with a JSON payload."""
    return b"data: " + encode_json(data) + b"\n\n"


class GenerationResponse(EventSourceResponse):
    """Streams events and ends the generation however the response ends.

    A generator that was never started runs no `finally`; this response does.
    """

    def __init__(self, generation: Generation, events: AsyncIterator[bytes]) -> None:
        super().__init__(_with_errors(events), sep="\n")
        del self.headers["connection"]  # the HTTP server's to decide
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generation.close()


async def _with_errors(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The status line is long gone when a stream fails: tell it as an event."""
    try:
        async for item in events:
            yield item
    except GlmserveError as error:
        yield event(body_of(error))
