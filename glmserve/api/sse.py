"""Server-sent events: one event per step, bytes made by hand because it is done per token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import anyio
import msgspec
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from glmserve.api.choices import Generation
from glmserve.api.errors import body_of
from glmserve.api.journaling.recording import Recording
from glmserve.api.response_cache import LONGEST_ANSWER
from glmserve.errors import GlmserveError

# It would cut every stream the moment a signal comes; ours end in their own time (cli.server).
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

_LAST_WORD = 1.0
"""Seconds for a client to take notice that its stream has ended; it may be long gone."""
_BREATH = 64
"""Events that are made again without a look at anything else."""

DONE = b"data: [DONE]\n\n"

encode_json = msgspec.json.Encoder().encode


def event(data: object) -> bytes:
    """One event with a JSON payload."""
    return b"data: " + encode_json(data) + b"\n\n"


_LONGEST_SILENCE = 10.0
"""Seconds after which a stream begins though there is nothing to tell: proxies wait for a head."""


async def streamed(
    request: Request, generation: Generation, events: AsyncIterator[bytes]
) -> GenerationResponse:
    """The response to a request for a stream, once there is something to stream.

    Until then a failure still has a status of its own: who waits in vain gets 503.

    Raises:
        ClientDisconnect: the client left.
        GlmserveError: the generation failed before its first token.
    """
    await generation.wait_first(request, _LONGEST_SILENCE)
    return GenerationResponse(generation, events)


class GenerationResponse(EventSourceResponse):
    """Streams events and ends the generation however the response ends.

    A generator that was never started runs no `finally`; this response does.
    """

    def __init__(self, generation: Generation, events: AsyncIterator[bytes]) -> None:
        self._events = _with_errors(events)
        super().__init__(self._events, sep="\n")
        del self.headers["connection"]  # the HTTP server's to decide
        self.headers["Cache-Control"] = "no-cache, no-store"
        self._generation = generation
        self._has_begun = False

    def record(self, store: Callable[[bytes], None]) -> None:
        """Call `store` with all that was sent, if the stream comes to its own end."""
        self.body_iterator = _recorded(self._events, store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        recording = self._generation.recording
        try:
            if recording is None:
                await super().__call__(scope, receive, send)
            else:
                await self._send_recorded(recording, scope, receive, send)
        finally:
            self._generation.close()
            if recording is not None:
                recording.close()

    async def _send_recorded(
        self, recording: Recording, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send it until it ends, or until a later connection goes on with it."""
        self.body_iterator = self._numbered(self.body_iterator, recording)
        with anyio.CancelScope() as sending:
            recording.on_supersede(sending.cancel)
            await super().__call__(scope, receive, send)
        if sending.cancelled_caught and self._has_begun:
            with anyio.move_on_after(_LAST_WORD):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _numbered(
        self, events: AsyncIterable[Any], recording: Recording
    ) -> AsyncIterator[bytes]:
        """Events with ids to come back with, from the first one that the client lacks.

        An event gets its id once it is sure that it can be made again.
        """
        number, has_id = 0, recording.skip > 0
        async for item in events:
            self._has_begun = True
            if self._generation.has_failed:
                yield item
                continue
            number += 1
            if number <= recording.skip:
                if number % _BREATH == 0:
                    await asyncio.sleep(0)
                continue
            event_id = await recording.event_id(number)
            if event_id is not None:
                has_id = True
                yield b"id: %s\n" % str(event_id).encode() + item
            elif has_id:
                has_id = False
                yield b"id:\n" + item  # takes the last id back
            else:
                yield item


async def _recorded(
    events: AsyncIterator[bytes], store: Callable[[bytes], None]
) -> AsyncIterator[bytes]:
    sent, size, item = [], 0, b""
    async for item in events:
        size += len(item)
        if size <= LONGEST_ANSWER:
            sent.append(item)
        else:
            sent.clear()  # it will not be kept
        yield item
    if size <= LONGEST_ANSWER and item == DONE:  # after an error it is not
        store(b"".join(sent))


async def _with_errors(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The status line is long gone when a stream fails: tell it as an event."""
    try:
        async for item in events:
            yield item
    except GlmserveError as error:
        yield event(body_of(error))
