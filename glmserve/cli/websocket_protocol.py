"""uvicorn's WebSocket connection, with the limits that HTTP connections have."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from glmserve.api.http.body import BodyMemory, BodyReservation
from glmserve.api.http.socket import DRAIN, IDLE_TIMEOUT
from glmserve.cli.deadline import MIN_BYTES_PER_SECOND, DrainWatch
from glmserve.config import ConnectionConfig
from glmserve.errors import NotReadyError

_MAX_EARLY_BYTES = 2**16
_CLOSE_SECONDS = 2.0
"""Seconds for a client to answer that the connection ends."""
_TRY_AGAIN = 1013  # of the registry of close codes


class WebSocketProtocol(WSProtocol):
    """One connection after its upgrade.

    * Messages take memory from the same store as bodies, and are as large at most (uvicorn's
      `ws_max_size`).
    * The connection of a client that does not read is aborted. One that answers no ping is closed.
    * When the server shuts down, the application is told, and may finish what it answers.

    Args:
        memory: for messages.
    """

    def __init__(self, limits: ConnectionConfig, memory: BodyMemory, **arguments: Any) -> None:
        super().__init__(**arguments, app_state={IDLE_TIMEOUT: limits.idle_timeout})
        self._limits = limits
        self._memory = memory
        self.close_timeout = _CLOSE_SECONDS
        self._incomplete = memory.reserve()
        self._complete: deque[BodyReservation] = deque()
        """Of the messages that the application has not received."""
        self._early = bytearray()
        """Bytes that came before the handshake was answered; wsproto would lose them."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._drain_watch = DrainWatch(
            self.loop, transport, self._limits.write_timeout, MIN_BYTES_PER_SECOND
        )

    def start(self, head: bytes, rest: bytes) -> None:
        """Begin with the head of the handshake, and the bytes that have come behind it."""
        super().data_received(head)
        self._early += rest

    def data_received(self, data: bytes) -> None:
        if self.handshake_complete:
            super().data_received(data)
            return
        self._early += data
        if len(self._early) > _MAX_EARLY_BYTES:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drain_watch.stop()
        for reservation in (self._incomplete, *self._complete):
            reservation.release()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._drain_watch.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._drain_watch.stop()

    def handle_message(self, event: TextMessage | BytesMessage) -> None:
        data = event.data
        try:
            self._incomplete.add(len(data.encode()) if isinstance(data, str) else len(data))
        except NotReadyError:
            self._refuse(_TRY_AGAIN, "other messages fill the memory that is kept for them")
            return
        super().handle_message(event)
        if event.message_finished and not self.close_sent:
            self._complete.append(self._incomplete)
            self._incomplete = self._memory.reserve()

    async def receive(self) -> Any:
        message = await super().receive()
        if message["type"] == "websocket.receive":
            self._complete.popleft().release()
        return message

    async def send(self, message: Any) -> None:
        if self.close_sent:  # by a limit, and the application does not know yet
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.accept" and self._early:
            self.data_received(bytes(self._early))
            self._early.clear()

    def shutdown(self) -> None:
        """Called when the server shuts down."""
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": DRAIN})  # type: ignore[typeddict-item]
        else:
            super().shutdown()

    def _refuse(self, code: int, reason: str) -> None:
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if not self.transport.is_closing():
            self.transport.write(self.conn.send(CloseConnection(code=code, reason=reason)))
            self.transport.close()
