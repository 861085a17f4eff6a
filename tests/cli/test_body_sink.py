"""What the HTTP server writes for an application that does not call `send` for each piece."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from glmserve.api.answering.event_push import EventSink
from glmserve.api.http.event_stream import BODY_SINK
from glmserve.cli.write_pass import WritePass
from support.live_server import HOST, Connection, connect, listening

GET = b"GET / HTTP/1.%d\r\nHost: x\r\n\r\n"


class SinkApp:
    """Begins a response, hands out its sink, and ends the response when it is told to."""

    def __init__(self) -> None:
        self.sinks: asyncio.Queue[EventSink] = asyncio.Queue()
        self.end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first;", "more_body": True})
        self.sinks.put_nowait(scope["extensions"][BODY_SINK]["sink"])
        await self.end.wait()
        await send({"type": "http.response.body", "body": b"last", "more_body": False})


@pytest.fixture
def app() -> SinkApp:
    return SinkApp()


@pytest.fixture
async def connection(app: SinkApp) -> AsyncIterator[Connection]:
    async with listening(app) as port, connect(port) as client:
        yield client


async def test_pieces_are_chunks_between_those_that_are_sent(
    app: SinkApp, connection: Connection
) -> None:
    await connection.send(GET % 1)
    sink = await app.sinks.get()
    sink.write(b"from the sink;")
    app.end.set()
    await connection.head()
    body = await connection.until(b"0\r\n\r\n")
    assert body == b"6\r\nfirst;\r\ne\r\nfrom the sink;\r\n4\r\nlast\r\n0\r\n\r\n"
    await connection.send(GET % 1)  # the connection goes on, and the next response has its own sink
    assert await app.sinks.get() is not sink


async def test_http_1_0_gets_pieces_without_chunks(app: SinkApp, connection: Connection) -> None:
    await connection.send(GET % 0)
    (await app.sinks.get()).write(b"from the sink;")
    app.end.set()
    await connection.head()
    assert await connection.rest() == b"first;from the sink;last"


async def test_a_sink_takes_no_more_while_the_client_does_not_read(app: SinkApp) -> None:
    async with listening(app) as port:
        with socket.create_connection((HOST, port)) as client:
            client.sendall(GET % 1)
            sink = await app.sinks.get()
            piece, num_written = b"x" * 2**16, 0
            while sink.takes_more:
                sink.write(piece)
                num_written += len(piece)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            num_read = 0
            while num_read < num_written:
                num_read += len(await loop.sock_recv(client, 2**20))
            while not sink.takes_more:
                await asyncio.sleep(0)
            app.end.set()


async def test_a_sink_takes_no_more_when_the_client_has_left(app: SinkApp) -> None:
    async with listening(app) as port:
        async with connect(port) as client:
            await client.send(GET % 1)
            sink = await app.sinks.get()
            assert sink.takes_more
        while sink.takes_more:
            await asyncio.sleep(0)
        app.end.set()


async def test_what_belongs_to_a_request_needs_no_garbage_collection() -> None:
    """Its prompt may be long, and the collector counts objects, not bytes."""

    class Held:
        """Stands for a prompt."""

    held = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["held"] = Held()
        held.append(weakref.ref(scope["held"]))
        assert BODY_SINK in scope["extensions"]
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    gc.disable()
    try:
        async with listening(app) as port, connect(port) as connection:
            for _ in range(3):
                await connection.send(GET % 1)
                await connection.response()
            # The connection keeps its newest request.
            assert [reference() is None for reference in held] == [True, True, False]
    finally:
        gc.enable()


async def test_one_pass_calls_back_in_order_and_later_ones_in_the_next() -> None:
    called = []
    write_pass = WritePass()

    def first() -> None:
        called.append("first")
        write_pass.add(lambda: called.append("third"))

    write_pass.add(first)
    write_pass.add(lambda: called.append("second"))
    assert called == []
    await asyncio.sleep(0)
    assert called == ["first", "second"]
    await asyncio.sleep(0)
    assert called == ["first", "second", "third"]
