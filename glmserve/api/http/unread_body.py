"""Answers that are sent before the request's body has been read."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_IDLE_SECONDS = 2.0
"""Seconds without a byte after which a client is taken to have read its answer."""
_MAX_DRAIN_SECONDS = 10.0
"""Seconds that are spent on one body at most."""


class UnreadBodyMiddleware:
    """Lets a client that is still sending read an answer that came early.

    Closing a connection that has unread data in it resets it, and the reset takes the answer with
    it. So an early answer (a 413, a 401) announces that the connection will be closed, is sent
    whole, and what the client still sends is dropped for a bounded time before it is closed. This
    is what nginx calls lingering close.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Exchange(scope, receive, send).send)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


class _Exchange:
    """One request and its response. `body.py` notes in the scope's state that the body was read."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._state = scope.setdefault("state", {})
        self._receive = receive
        self._send = send
        self._is_early = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_early = "body_was_read" not in self._state
            if self._is_early:
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
        elif self._is_early and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drop_rest()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _drop_rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAX_DRAIN_SECONDS):
                message: Message = {"more_body": True}
                while message.get("more_body", False):  # until the last piece, or the client left
                    message = await asyncio.wait_for(self._receive(), _MAX_IDLE_SECONDS)
