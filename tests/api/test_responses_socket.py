"""/v1/responses as a WebSocket: access, limits, and what is not a request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.applications import Starlette

from glmserve.config import ConnectionConfig, ServerConfig
from support.fake_server import client_of, serve, tenants
from support.fakes import FakeRunner
from support.live_server import connect, listening
from support.waiting import until, until_running
from support.websocket_client import (
    RefusedError,
    WebSocketClient,
    open_websocket,
)

PATH = "/v1/responses"
CREATE: dict[str, Any] = {
    "type": "response.create",
    "input": "hi",
    "temperature": 0,
    "max_output_tokens": 4,
}
HANDSHAKE = (
    b"GET /v1/responses HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n"
    b"uPgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TIMEOUT = 20


@asynccontextmanager
async def server(
    limits: ConnectionConfig = ConnectionConfig(),  # noqa: B008
    journal: Path | None = None,
    runner: FakeRunner | None = None,
    **config: Any,
) -> AsyncIterator[tuple[Starlette, int]]:
    settings = ServerConfig(served_model_name="fake", **config)
    async with (
        serve(runner, config=settings, journal=journal) as app,
        listening(app, limits=limits) as port,
    ):
        yield app, port


async def events(socket: WebSocketClient) -> list[dict[str, Any]]:
    """The events of one response, or one error."""
    found = [await socket.receive()]
    while found[-1]["type"] not in ("response.completed", "response.incomplete", "error"):
        found.append(await socket.receive())
    return found


async def answered(socket: WebSocketClient, **fields: Any) -> dict[str, Any]:
    await socket.send({**CREATE, **fields})
    response: dict[str, Any] = (await events(socket))[-1]["response"]
    return response


async def test_the_same_events_as_a_stream() -> None:
    async with server() as (_, port):
        async with open_websocket(port) as socket:
            await socket.send(CREATE)
            over_socket = [event["type"] for event in await events(socket)]
        fields = {key: value for key, value in CREATE.items() if key != "type"}
        body = json.dumps({**fields, "stream": True}).encode()
        async with connect(port) as client:
            head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            await client.send(head % (PATH.encode(), len(body)) + body)
            text = (await client.rest()).decode()
    streamed = [line[7:] for line in text.splitlines() if line.startswith("event: ")]
    # A delta may hold several tokens, so their number may differ.
    assert list(dict.fromkeys(over_socket)) == list(dict.fromkeys(streamed))


@pytest.mark.parametrize("path", [f"{PATH}/", f"/proxy{PATH}", "/api/paas/v4/responses?a=b"])
async def test_other_names_of_the_path(path: str) -> None:
    async with server(root_path="/proxy") as (_, port), open_websocket(port, path) as socket:
        assert (await answered(socket))["output"]


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer key"}, {"x-api-key": "key"}], ids=["bearer", "x-api-key"]
)
async def test_keys(headers: dict[str, str]) -> None:
    async with server(api_keys=tenants("key")) as (_, port):
        for wrong in ({}, {"authorization": "Bearer other"}):
            with pytest.raises(RefusedError) as refused:
                async with open_websocket(port, headers=wrong):
                    pass
            assert refused.value.status == 401
            assert "API key" in json.loads(refused.value.body)["error"]["message"]
        async with open_websocket(port, headers=headers) as socket:
            assert (await answered(socket))["output"]


@pytest.mark.parametrize(
    ("origin", "is_welcome"),
    [
        ("http://127.0.0.1:1", True),
        ("https://allowed.example", True),
        ("http://other.example", False),
        ("null", False),
    ],
)
async def test_web_pages_of_other_origins(origin: str, *, is_welcome: bool) -> None:
    """A browser opens a WebSocket to any server for any page, and says for which."""
    async with server(cors_origins=("https://allowed.example",)) as (_, port):
        try:
            async with open_websocket(port, headers={"origin": origin}) as socket:
                await answered(socket)
            assert is_welcome
        except RefusedError as error:
            assert error.status == 403
            assert "--cors-origin" in json.loads(error.body)["error"]["message"]
            assert not is_welcome


@pytest.mark.parametrize(
    ("message", "param", "words"),
    [
        ("{", None, "not valid JSON"),
        ("[]", None, "must be a JSON object"),
        ({"input": "hi"}, "type", "type is required"),
        ({**CREATE, "type": "response.steer"}, "type", "response.create"),
        ({**CREATE, "stream": False}, "stream", "leave it out"),
        ({**CREATE, "background": True}, "background", "POST"),
        ({**CREATE, "generate": False}, "generate", "every request is answered"),
        ({**CREATE, "x": 1}, "x", "not supported"),
        ({**CREATE, "model": "other"}, "model", "other"),
        ({**CREATE, "input": "x" * 200}, "input", "maximum context length"),
    ],
)
async def test_errors_are_events(message: Any, param: str | None, words: str) -> None:
    """And the next request is answered."""
    async with server() as (_, port), open_websocket(port) as socket:
        await socket.send(message)
        (event,) = await events(socket)
        assert event["status"] in (400, 404)
        assert event["error"]["param"] == param
        assert words in event["error"]["message"]
        assert (await answered(socket))["output"]


async def test_a_failure_ends_a_response_once() -> None:
    runner = FakeRunner()
    async with server(runner=runner) as (_, port), open_websocket(port) as socket:
        runner.fail_at_step = len(runner.steps) + 5
        await socket.send({**CREATE, "max_output_tokens": 50})
        kinds = [(await socket.receive())["type"]]
        while kinds[-1] != "response.failed":
            kinds.append((await socket.receive())["type"])
        assert "error" not in kinds


async def test_requests_wait_for_each_other() -> None:
    async with server() as (_, port), open_websocket(port) as socket:
        for number in range(5):
            await socket.send({**CREATE, "metadata": {"number": str(number)}})
        found = [(await events(socket)) for _ in range(5)]
    assert [e[-1]["response"]["metadata"]["number"] for e in found] == list("01234")
    for one in found:
        assert [event["sequence_number"] for event in one] == list(range(len(one)))


async def test_only_the_newest_response_is_held_without_a_store() -> None:
    async with server(response_store_size=0) as (_, port), open_websocket(port) as socket:
        first = await answered(socket)
        second = await answered(socket, previous_response_id=first["id"])
        assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
        await socket.send({**CREATE, "previous_response_id": first["id"]})
        (event,) = await events(socket)
        assert event["error"]["code"] == "previous_response_not_found"


async def test_stored_responses_are_those_of_http() -> None:
    async with server() as (app, port):
        async with open_websocket(port) as socket:
            stored = await answered(socket)
        async with open_websocket(port) as socket:
            await answered(socket, previous_response_id=stored["id"])
        assert app.state.responses.find(None, stored["id"]) is not None


async def test_nothing_is_journaled(tmp_path: Path) -> None:
    """A client has no way to ask for the rest."""
    async with server(journal=tmp_path) as (app, port), open_websocket(port) as socket:
        await answered(socket)
        journal = app.state.context.answers.journal
        assert journal.metrics.resumed == 0
        assert list(journal.index) == []


async def test_a_client_that_leaves_ends_its_response() -> None:
    gate = threading.Event()
    gate.set()
    async with server(runner=FakeRunner(gate=gate)) as (app, port), client_of(app) as client:
        gate.clear()
        async with open_websocket(port) as socket:
            await socket.send({**CREATE, "max_output_tokens": 100})
            await until_running(app, 1)
        await until(lambda: not app.state.context.engine.is_busy)
        gate.set()
        async with asyncio.timeout(TIMEOUT):
            while (
                'glmserve_kv_blocks_used{model_name="fake"} 0.0'
                not in (await client.get("/metrics")).text
            ):
                await asyncio.sleep(0.01)
        ended = app.state.context.engine.stats.registry
        assert ended.get_sample_value("glmserve_requests_finished_total", {"reason": "abort"}) == 1


async def test_large_messages_are_refused() -> None:
    async with server(max_body_size=2000) as (_, port), open_websocket(port) as socket:
        await answered(socket)
        await socket.send({**CREATE, "input": "x" * 3000})
        assert await socket.closed() == 1009


async def test_messages_take_the_memory_of_bodies() -> None:
    async with server(max_body_size=2000) as (app, port):
        memory = app.state.body_memory
        before = memory.free
        async with open_websocket(port) as socket:
            await answered(socket)
            assert memory.free == before
            memory.free = 10
            await socket.send(CREATE)
            assert await socket.closed() == 1013
        async with asyncio.timeout(TIMEOUT):
            while memory.free != 10:
                await asyncio.sleep(0.01)


async def test_too_many_messages_ahead() -> None:
    async with server() as (app, port), open_websocket(port) as socket:
        for _ in range(40):
            await socket.send({**CREATE, "max_output_tokens": 100})
        assert await socket.closed() == 1008
        memory = app.state.body_memory
        async with asyncio.timeout(TIMEOUT):
            while memory.free != 64 * memory.largest_body:
                await asyncio.sleep(0.01)


async def test_an_idle_connection_is_closed() -> None:
    limits = ConnectionConfig(idle_timeout=0.2)
    async with server(limits) as (_, port), open_websocket(port) as socket:
        await answered(socket)
        async with asyncio.timeout(TIMEOUT):
            assert await socket.closed() == 1000


async def test_connections_count_for_the_limit() -> None:
    limits = ConnectionConfig(max_connections=1)
    async with server(limits) as (_, port), open_websocket(port), connect(port) as other:
        await other.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 503 " in await other.head()


async def test_a_server_that_shuts_down_finishes_the_response() -> None:
    async with server() as (app, port), open_websocket(port) as socket:
        await socket.send({**CREATE, "max_output_tokens": 60})
        await socket.receive()
        app.state.context.engine.drain("shutting down")
        async with open_websocket(port) as late:
            await late.send(CREATE)
            (event,) = await events(late)
            assert event["status"] == 503
        assert (await events(socket))[-1]["response"]["output"]


async def test_handshakes_in_any_split() -> None:
    async with server() as (_, port):
        for cut in (*range(1, len(HANDSHAKE), 7), len(HANDSHAKE) - 1):
            async with connect(port) as client:
                await client.send(HANDSHAKE[:cut])
                await asyncio.sleep(0.01)
                await client.send(HANDSHAKE[cut:])
                head = await client.head()
            assert b" 101 " in head
            assert b"s3pplmbitxaq9kygzzhzrbk+xoo=" in head  # RFC 6455, section 1.3
            assert b"permessage-deflate" not in head


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"uPgrade: websocket", b"Upgrade-Ignored: websocket", b" 405 "),
        (b"uPgrade: websocket", b"Upgrade: h2c", b" 405 "),
        (b"GET /v1/responses", b"GET /v1/models", b" 200 "),
        (b"GET /v1/responses", b"GET /x/responses", b" 403 "),
        (b"GET /v1/responses", b"DELETE /v1/responses", b" 405 "),
        (b"HTTP/1.1", b"HTTP/1.0", b" 405 "),
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8", b" 426 "),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", b" 400 "),
    ],
)
async def test_what_is_no_handshake(old: bytes, new: bytes, status: bytes) -> None:
    async with server() as (_, port), connect(port) as client:
        await client.send(HANDSHAKE.replace(old, new))
        assert status in await client.head()


async def test_bytes_behind_the_handshake_are_frames() -> None:
    """A close frame that comes with the handshake is read, and answered."""
    frame = bytes([0x88, 0x80, 0, 0, 0, 0])
    async with server() as (_, port), connect(port) as client:
        await client.send(HANDSHAKE + frame)
        assert b" 101 " in await client.head()
        assert (await client.rest())[:1] == b"\x88"


async def test_noise_ends_the_connection_alone() -> None:
    async with server() as (_, port):
        async with connect(port) as client:
            await client.send(HANDSHAKE)
            await client.head()
            await client.send(b"\xff" * 4000)
            await client.rest()
        async with open_websocket(port) as socket:
            assert (await answered(socket))["output"]


async def test_openai_s_sdk() -> None:
    """Two turns over one connection, by the events of the SDK."""
    pytest.importorskip("websockets", reason="OpenAI's SDK opens WebSockets with it")
    url = "http://127.0.0.1:{}/v1"
    async with server(api_keys=tenants("key")) as (_, port):
        sdk = openai.AsyncOpenAI(base_url=url.format(port), api_key="key", max_retries=0)
        async with sdk, sdk.responses.connect() as connection:
            previous = None
            for _ in range(2):
                await connection.response.create(
                    model="fake",
                    input="hi",
                    max_output_tokens=4,
                    store=False,
                    previous_response_id=previous,
                )
                text = ""
                async for event in connection:
                    if event.type == "response.output_text.delta":
                        text += event.delta
                    if event.type == "response.incomplete":
                        assert event.response.output_text == text != ""
                        previous = event.response.id
                        break
