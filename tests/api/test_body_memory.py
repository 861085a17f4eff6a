"""All bodies together have a bound: many slow ones must not fill the server's memory."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from glmserve.api.http.body import BodyMemory
from glmserve.config import ServerConfig
from glmserve.errors import NotReadyError
from support.fake_server import serve
from support.live_server import Connection, connect, listening

LIMIT = 10_000


def test_what_is_taken_is_given_back() -> None:
    memory = BodyMemory(100, 100)
    with memory.reserve() as first, memory.reserve() as second:
        first.add(60)
        second.add(40)
        with pytest.raises(NotReadyError):
            first.add(1)
    with pytest.raises(ZeroDivisionError), memory.reserve() as third:
        third.add(100)
        _ = 1 / 0
    assert memory.free == 100


async def test_bodies_that_do_not_end() -> None:
    config = ServerConfig(served_model_name="fake", max_body_size=LIMIT)
    async with serve(config=config) as app, listening(app) as port, AsyncExitStack() as stack:
        unfinished = [await stack.enter_async_context(connect(port)) for _ in range(64)]
        for connection in unfinished:
            await begin(connection, b" " * (LIMIT - 100), LIMIT)
        while app.state.body_memory.free > 64 * 100:
            await asyncio.sleep(0.01)
        async with connect(port) as late:
            await begin(late, b" " * LIMIT, LIMIT)
            head, body = await late.response()
            assert head.startswith(b"http/1.1 503 ")
            assert b"retry-after: " in head
            assert "try again" in json.loads(body)["error"]["message"]
        for connection in unfinished:
            await connection.close()
        async with connect(port) as client:
            data = b'{"model": "fake", "prompt": "x"}'
            await begin(client, data, len(data))
            assert (await client.response())[0].startswith(b"http/1.1 200 ")
        assert app.state.body_memory.free == 64 * LIMIT


async def begin(connection: Connection, data: bytes, length: int) -> None:
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    await connection.send(head.encode() + data)
