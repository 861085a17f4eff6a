"""Connections, byte by byte: what clients of all ages and intentions send and get."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from support.live_server import Connection, connect, listening

GET = b"GET /%s HTTP/1.%d\r\nHost: x\r\n\r\n"


class EchoApp:
    """/stream sends a, waits for `go_on` and sends b; /wait waits until the client is gone; other
    paths send their body back."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.gone = asyncio.Event()
        self.num_requests = 0
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.num_requests += 1
        self.headers = scope["headers"]
        if scope["path"] == "/wait":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.set()
            return
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a\n", "more_body": True})
            await self.go_on.wait()
            await send({"type": "http.response.body", "body": b"b\n"})
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app() -> EchoApp:
    return EchoApp()


@pytest.fixture
async def connection(app: EchoApp) -> AsyncIterator[Connection]:
    async with listening(app) as port, connect(port) as client:
        yield client


async def test_http_1_0_streams_without_chunks(app: EchoApp, connection: Connection) -> None:
    await connection.send(GET % (b"stream", 0))
    head = await connection.head()
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert await connection.until(b"\n") == b"a\n"  # while the rest is not made yet
    app.go_on.set()
    assert await connection.rest() == b"b\n"


async def test_http_1_1_streams_in_chunks_and_goes_on(app: EchoApp, connection: Connection) -> None:
    app.go_on.set()
    for _ in range(2):
        await connection.send(GET % (b"stream", 1))
        head = await connection.head()
        assert b"transfer-encoding: chunked" in head
        assert await connection.until(b"0\r\n\r\n") == b"2\r\na\n\r\n2\r\nb\n\r\n0\r\n\r\n"


async def test_http_1_0_gets_a_length_where_there_is_one(connection: Connection) -> None:
    await connection.send(b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")
    head, body = await connection.response()
    assert b"connection: close" in head
    assert body == b"abc"
    assert await connection.rest() == b""


async def test_head_of_a_stream_over_http_1_0(app: EchoApp, connection: Connection) -> None:
    app.go_on.set()
    await connection.send(b"HEAD /stream HTTP/1.0\r\n\r\n")
    assert b" 200 " in await connection.head()
    assert await connection.rest() == b""


async def test_pipelined_requests_are_answered_in_order(connection: Connection) -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d"
    await connection.send(b"".join(post % i for i in range(5)))
    for i in range(5):
        assert (await connection.response())[1] == b"%d" % i


async def test_an_offer_of_http_2_does_not_cost_the_body(connection: Connection) -> None:
    """Java's client makes it with each request."""
    request = (
        b"POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 3\r\n"
        b"Host: x\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\nUpgrade: h2c\r\n\r\n"
    )
    for body in (b"abc", b"xyz"):
        await connection.send(request)
        await connection.send(body)
        assert (await connection.response())[1] == body


HEADS = (
    b"POST / HTTP/1.1\r\nupGrade: h2c\r\nConnection: Upgrade\r\nContent-Length: %d\r\n\r\n%s",
    b"POST / HTTP/1.1\r\nHost: x\r\nUpgrade:h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
)
UPGRADING_BODY = b"\r\n\r\nUpgrade: h2c\r\n\r\n"


@pytest.mark.parametrize("head", HEADS, ids=["length", "chunks"])
async def test_an_offer_is_passed_over_however_it_is_split(
    app: EchoApp, connection: Connection, head: bytes
) -> None:
    """Two requests in a row, in two reads cut around the header and around the first one's end."""
    request = head % (len(UPGRADING_BODY), UPGRADING_BODY)
    header, end = request.lower().index(b"upgrade:"), len(request)
    for cut in (*range(header - 2, header + 10), *range(end - 5, end + 2), end + header + 3):
        for part in ((request * 2)[:cut], (request * 2)[cut:]):
            await connection.send(part)
            await asyncio.sleep(0)
        for _ in range(2):
            assert (await connection.response())[1] == UPGRADING_BODY
    assert (b"upgrade", b"h2c") not in app.headers


async def test_an_offer_byte_by_byte(connection: Connection) -> None:
    for byte in HEADS[1] % (3, b"abc"):
        await connection.send(bytes([byte]))
        await asyncio.sleep(0.001)
    assert (await connection.response())[1] == b"abc"


@pytest.mark.parametrize(
    "request_line", [b"GET /\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n"]
)
async def test_other_versions_are_refused(
    app: EchoApp, connection: Connection, request_line: bytes
) -> None:
    await connection.send(request_line)
    head, body = await connection.response()
    assert head.startswith(b"http/1.1 400 ")
    assert "HTTP/1.1" in json.loads(body)["error"]["message"]
    assert await connection.rest() == b""
    assert not app.num_requests


async def test_a_body_is_not_taken_for_a_head(connection: Connection) -> None:
    body = b"\r\nupgrade: h2c\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    for parts in ([head + body], [head, body]):
        for part in parts:
            await connection.send(part)
        assert (await connection.response())[1] == body


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\na: \x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_an_error_object(
    connection: Connection, garbage: bytes
) -> None:
    await connection.send(garbage)
    head, body = await connection.response()
    assert head.startswith(b"http/1.1 400 ")
    assert b"x-request-id: " in head
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert await connection.rest() == b""


async def test_connect_is_answered_and_nobody_is_told_to_install_anything(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await connection.send(b"CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _ = await connection.response()
    assert head.startswith(b"http/1.1 ")
    assert not caplog.records


async def test_endless_heads_are_refused(connection: Connection) -> None:
    await connection.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000)
    head, body = await connection.response()
    assert head.startswith(b"http/1.1 431 ")
    assert "65536" in json.loads(body)["error"]["message"]
    await connection.send(b"a: b\r\n" * 1000)  # still listened to, so that it can read the answer
    assert await connection.rest() == b""


async def test_too_many_headers_are_refused(connection: Connection) -> None:
    await connection.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 257 + b"\r\n")
    head, body = await connection.response()
    assert head.startswith(b"http/1.1 431 ")
    assert "256 headers" in json.loads(body)["error"]["message"]
    assert await connection.rest() == b""


async def test_trailers_are_no_headers(app: EchoApp, connection: Connection) -> None:
    await connection.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await connection.send(b"0\r\nX-Api-Key: k\r\n\r\n")
    assert (await connection.response())[1] == b"abc"
    assert [name for name, _ in app.headers] == [b"transfer-encoding"]


async def test_too_many_requests_ahead_are_refused(app: EchoApp, connection: Connection) -> None:
    await connection.send(GET % (b"wait", 1) + GET % (b"", 1) * 100)
    head, body = await connection.response()
    assert head.startswith(b"http/1.1 400 ")
    assert "64 requests" in json.loads(body)["error"]["message"]
    assert await connection.rest() == b""
    await asyncio.wait_for(app.gone.wait(), 5)


async def test_a_client_that_leaves_is_missed_though_it_has_sent_more(
    app: EchoApp, connection: Connection
) -> None:
    """The request under way must hear of it, not only the newest one."""
    await connection.send(GET % (b"wait", 1) * 3)
    await connection.close()
    await asyncio.wait_for(app.gone.wait(), 5)
    assert app.num_requests == 1


async def test_one_endless_header_is_refused(connection: Connection) -> None:
    await connection.send(b"GET / HTTP/1.1\r\na: " + b"b" * 500_000)
    assert (await connection.response())[0].startswith(b"http/1.1 431 ")


async def test_a_long_body_is_no_endless_head(connection: Connection) -> None:
    body = b"x" * 1_000_000
    await connection.send(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
    await connection.send(body)
    assert (await connection.response())[1] == body


async def test_garbage_behind_a_request_does_not_end_up_in_its_stream(
    app: EchoApp, connection: Connection
) -> None:
    await connection.send(GET % (b"stream", 1))
    assert await connection.until(b"a\n\r\n")
    await connection.send(b"garbage\r\n\r\n")
    assert await connection.rest() == b""
    app.go_on.set()


async def test_other_loggers_keep_their_handlers() -> None:
    """A library's handler closes its stream with itself, such as absl's, which OpenVINO loads."""
    handler = ClosingHandler()
    async with listening(EchoApp()):
        pass
    assert not handler.closed
    handler.close()


class ClosingHandler(logging.Handler):
    closed = False

    def close(self) -> None:
        self.closed = True
        super().close()
