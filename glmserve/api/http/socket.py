"""A WebSocket connection: whole messages in, texts out."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from glmserve.api.answering.client import ClientGoneError
from glmserve.api.http.body import BodyMemory, BodyReservation
from glmserve.errors import NotReadyError

DRAIN = "glmserve.drain"
"""The type of the message by which the HTTP server tells a connection that it shuts down."""

IDLE_TIMEOUT = "idle_timeout"
"""Where the HTTP server puts the seconds between two messages into the scope's state; 0: no limit.
"""

_MOST_WAITING = 16
"""Messages that a client may send before it has the answers of earlier ones."""
_POLICY_VIOLATION, _TRY_AGAIN = 1008, 1013  # RFC 6455 and its registry of close codes


class Socket:
    """One connection, after its handshake.

    `read` runs beside whatever handles the messages, so that the end of the connection is noticed
    while a message is answered.

    Args:
        memory: for messages that wait.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, memory: BodyMemory) -> None:
        self._receive = receive
        self._send = send
        self._memory = memory
        self._idle_timeout: float | None = scope.get("state", {}).get(IDLE_TIMEOUT) or None
        self._waiting: deque[tuple[bytes, BodyReservation]] = deque()
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        self._is_draining = False
        self._close_code = 1000

    async def accept(self) -> bool:
        """Complete the handshake; False: the client has left."""
        if (await self._receive())["type"] != "websocket.connect":
            return False
        await self._send({"type": "websocket.accept"})
        return True

    async def read(self) -> None:
        """Receive until the connection ends."""
        while not self._gone.is_set():
            self._take(await self._receive())
            self._changed.set()

    async def next(self) -> tuple[bytes, BodyReservation] | None:
        """The next message, and its memory, which must be released; None: there will be none."""
        while not self._waiting:
            if self._gone.is_set() or self._is_draining:
                return None
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), self._idle_timeout)
            except TimeoutError:
                return None
        return None if self._gone.is_set() else self._waiting.popleft()

    async def left(self) -> None:
        """A ClientSignal: wait until the client has closed the connection."""
        await self._gone.wait()

    async def send(self, text: str) -> None:
        """Send one message.

        Raises:
            ClientGoneError: the connection has ended.
        """
        try:
            await self._send({"type": "websocket.send", "text": text})
        except OSError:
            raise ClientGoneError from None

    async def close(self, code: int | None = None) -> None:
        """Release what waits, and end the connection.

        Args:
            code: None: by the way in which it ends.
        """
        while self._waiting:
            self._waiting.popleft()[1].release()
        if self._close_code or code:
            with contextlib.suppress(OSError):
                await self._send({"type": "websocket.close", "code": code or self._close_code})

    def _take(self, message: Message) -> None:
        if message["type"] == DRAIN:
            self._is_draining, self._close_code = True, 1012
        elif message["type"] == "websocket.receive":
            self._keep(message.get("bytes") or (message.get("text") or "").encode())
        else:
            self._end(0)

    def _keep(self, body: bytes) -> None:
        if len(self._waiting) == _MOST_WAITING:
            self._end(_POLICY_VIOLATION)
            return
        reservation = self._memory.reserve()
        try:
            reservation.add(len(body))
        except NotReadyError:
            self._end(_TRY_AGAIN)
            return
        self._waiting.append((body, reservation))

    def _end(self, code: int) -> None:
        """End whatever is answered. 0: the client has closed the connection."""
        self._close_code = code
        self._gone.set()


def is_foreign(headers: Headers, allowed_origins: Collection[str]) -> bool:
    """Whether a web page of another origin opens the connection, and has not been allowed to.

    Browsers send no preflight request before they do this, so CORS does not hold them back.
    """
    origin = headers.get("origin")
    if origin is None or "*" in allowed_origins or origin in allowed_origins:
        return False
    return origin.partition("://")[2] != headers.get("host")
