"""An application behind a real socket, in this process."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from glmserve.api.http.body import BodyMemory
from glmserve.cli.http_server import HttpServer
from glmserve.config import ConnectionConfig

HOST = "127.0.0.1"
_LIMITS = ConnectionConfig()


@asynccontextmanager
async def listening(
    app: ASGIApp,
    tls: ssl.SSLContext | None = None,
    limits: ConnectionConfig = _LIMITS,
) -> AsyncIterator[int]:
    """Serve it as the command line would; the port."""
    state = getattr(app, "state", None)
    memory = state.body_memory if state else BodyMemory(2**20, 2**20)
    server = HttpServer(app, limits, tls, memory, grace_period=5)
    with socket.create_server((HOST, 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


class Connection:
    """A client that writes and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> bytes:
        """A response's first line and headers, in lower case."""
        return (await self._reader.readuntil(b"\r\n\r\n")).lower()

    async def until(self, end: bytes) -> bytes:
        return await self._reader.readuntil(end)

    async def exactly(self, size: int) -> bytes:
        return await self._reader.readexactly(size)

    async def response(self) -> tuple[bytes, bytes]:
        """The head and the body of a response with a Content-Length."""
        head = await self.head()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return head, await self._reader.readexactly(length)

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        return await self._reader.read()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
