"""A client of WebSockets, over a socket of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from support.live_server import HOST


class ClosedError(Exception):
    """The server has closed the connection."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class RefusedError(Exception):
    """The server refused the handshake."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


class WebSocketClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._events: list[Any] = []

    async def handshake(self, path: str, headers: Mapping[str, str]) -> None:
        """Open the connection.

        Raises:
            RefusedError: the server does not want to.
        """
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = Request(host=f"{HOST}:1", target=path, extra_headers=extra)
        self._writer.write(self._connection.send(request))
        event = await self._next()
        if isinstance(event, AcceptConnection):
            return
        assert isinstance(event, RejectConnection)
        body, is_complete = b"", not event.has_body
        while not is_complete:
            part = await self._next()
            assert isinstance(part, RejectData)
            body, is_complete = body + part.data, part.body_finished
        raise RefusedError(event.status_code, body)

    async def send(self, value: Any) -> None:
        """Send a value as JSON, or a text as it is."""
        data = value if isinstance(value, str) else json.dumps(value)
        self._writer.write(self._connection.send(Message(data=data)))
        await self._writer.drain()

    async def receive(self) -> Any:
        """The next message as decoded JSON.

        Raises:
            ClosedError: there is none.
        """
        text = ""
        while True:
            event = await self._next()
            if isinstance(event, CloseConnection):
                self._writer.write(self._connection.send(event.response()))
                raise ClosedError(event.code)
            if isinstance(event, Ping):
                self._writer.write(self._connection.send(event.response()))
            elif isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    return json.loads(text)

    async def closed(self) -> int:
        """The code with which the server closes, after all that it has sent."""
        try:
            while True:
                await self.receive()
        except ClosedError as error:
            return error.code

    async def _next(self) -> Any:
        while not self._events:
            data = await self._reader.read(2**16)
            self._connection.receive_data(data or None)
            self._events += self._connection.events()
        return self._events.pop(0)


@asynccontextmanager
async def open_websocket(
    port: int, path: str = "/v1/responses", headers: Mapping[str, str] = {}
) -> AsyncIterator[WebSocketClient]:
    """A connection to a server of this machine; see `WebSocketClient.handshake`."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        client = WebSocketClient(reader, writer)
        await client.handshake(path, headers)
        yield client
    finally:
        writer.close()
