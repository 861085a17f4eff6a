"""Clients that are slow, silent or too many."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from glmserve.cli.deadline import Deadline
from glmserve.cli.descriptors import room_for_connections
from glmserve.config import ConnectionConfig
from glmserve.errors import OptionError
from support.certificates import self_signed
from support.live_server import HOST, Connection, connect, listening

SOON = 0.2
PATIENT = ConnectionConfig(header_timeout=60, body_timeout=60, idle_timeout=60, write_timeout=60)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
TIMEOUT = 20


def patient(**limits: float) -> ConnectionConfig:
    """Limits that no test runs into but these."""
    return ConnectionConfig(**{"header_timeout": 60, "body_timeout": 60, **limits})  # type: ignore[arg-type]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    else:
        return
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def trickle(connection: Connection, byte: bytes) -> None:
    """A byte at a time, for as long as the server takes them."""
    with suppress(ConnectionError):
        while True:
            await connection.send(byte)
            await asyncio.sleep(SOON / 10)


async def refusal(connection: Connection) -> tuple[bytes, str]:
    """Status line and message of what a slow client is told, and then the connection ends."""
    async with asyncio.timeout(TIMEOUT):
        head, body = await connection.response()
        assert await connection.rest() == b""
    return head.split(b"\r\n")[0], json.loads(body)["error"]["message"]


class TestHeads:
    @pytest.fixture
    async def connection(self) -> AsyncIterator[Connection]:
        limits = patient(header_timeout=SOON)
        async with listening(echo, limits=limits) as port, connect(port) as client:
            yield client

    @pytest.mark.parametrize("begin", [b"G", GET[:-1], GET + b"G", b"\r\n"])
    async def test_a_head_must_come_to_its_end(self, connection: Connection, begin: bytes) -> None:
        await connection.send(begin)
        if begin.startswith(GET):
            await connection.response()
        status, message = await refusal(connection)
        assert status == b"http/1.1 408 request timeout"
        assert "headers" in message

    async def test_single_bytes_do_not_buy_time(self, connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\na: ")
        sending = asyncio.create_task(trickle(connection, b"x"))
        assert (await refusal(connection))[0].startswith(b"http/1.1 408 ")
        sending.cancel()

    async def test_heads_in_time_are_served_whatever_the_pauses(
        self, connection: Connection
    ) -> None:
        for _ in range(2):
            await connection.send(GET[:9])
            await connection.send(GET[9:])
            assert b" 200 " in (await connection.response())[0]
            await asyncio.sleep(2 * SOON)


class TestBodies:
    @pytest.fixture
    async def connection(self) -> AsyncIterator[Connection]:
        limits = patient(body_timeout=SOON)
        async with listening(echo, limits=limits) as port, connect(port) as client:
            yield client

    async def test_a_body_must_go_on(self, connection: Connection) -> None:
        await connection.send(POST + b"x" * 1000)
        status, message = await refusal(connection)
        assert status == b"http/1.1 408 request timeout"
        assert "body" in message

    async def test_single_bytes_do_not_buy_time(self, connection: Connection) -> None:
        await connection.send(POST)
        sending = asyncio.create_task(trickle(connection, b"x"))
        assert (await refusal(connection))[0].startswith(b"http/1.1 408 ")
        sending.cancel()

    async def test_a_body_may_take_its_time_as_long_as_it_comes(
        self, connection: Connection
    ) -> None:
        await connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n")
        for _ in range(10):
            await connection.send(b"x" * 5000)
            await asyncio.sleep(SOON / 4)
        assert b" 200 " in (await connection.response())[0]

    async def test_a_request_that_waits_for_another_is_not_late(self) -> None:
        go_on = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await go_on.wait()
            await echo(scope, receive, send)

        async with (
            listening(app, limits=patient(body_timeout=SOON)) as port,
            connect(port) as connection,
        ):
            await connection.send(GET + b"POST / HTTP/1.1\r\nContent-Length: 200000\r\n\r\nxx")
            await asyncio.sleep(2 * SOON)
            go_on.set()
            assert b" 200 " in (await connection.response())[0]
            await connection.send(b"x" * 199_998)
            assert len((await connection.response())[1]) == 200_000


class TestIdleness:
    @pytest.mark.parametrize("requests", [0, 1])
    async def test_a_connection_without_a_request_is_closed(self, requests: int) -> None:
        limits = patient(idle_timeout=SOON)
        async with listening(echo, limits=limits) as port, connect(port) as connection:
            for _ in range(requests):
                await connection.send(GET)
                await connection.response()
            async with asyncio.timeout(TIMEOUT):
                assert await connection.rest() == b""

    async def test_zero_is_no_limit(self) -> None:
        limits = ConnectionConfig(0, 0, 0, 0)
        async with listening(echo, limits=limits) as port, connect(port) as connection:
            await asyncio.sleep(SOON)
            await connection.send(GET[:5])
            await asyncio.sleep(SOON)
            await connection.send(GET[5:])
            assert b" 200 " in (await connection.response())[0]

    async def test_a_tls_handshake_must_come_to_its_end(self, tmp_path: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self_signed(tmp_path, "server"))
        limits = patient(header_timeout=SOON)
        async with listening(echo, context, limits) as port, connect(port) as connection:
            await connection.send(b"\x16\x03\x01")
            async with asyncio.timeout(TIMEOUT):
                assert await connection.rest() == b""


class SlowReader:
    """A client with a small window that asks and does not read."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect((HOST, port))
        self.socket.sendall(GET)

    def __enter__(self) -> SlowReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class TestReaders:
    """What is written lies in the kernel's buffers first, so a response must be larger."""

    SIZE = 64 * 2**20

    @pytest.mark.parametrize("is_whole", [False, True])
    async def test_who_does_not_read_is_cut_off(self, is_whole: bool) -> None:
        gone = asyncio.Event()
        num_sent = 0

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal num_sent
            piece = b"x" * (self.SIZE if is_whole else 100_000)
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(self.SIZE // len(piece)):
                message: Message = {"type": "http.response.body", "body": piece, "more_body": True}
                await send(message)
                num_sent += len(piece)
            await send({"type": "http.response.body", "body": b""})
            assert (await receive())["type"] == "http.disconnect"
            gone.set()

        async with listening(app, limits=patient(write_timeout=SOON)) as port:
            with SlowReader(port):
                await asyncio.wait_for(gone.wait(), TIMEOUT)

    async def test_who_does_not_read_the_very_end_is_cut_off(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The response is complete, and the connection closed but for the little that is left."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"connection", b"close"), (b"content-length", b"500000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"x" * 500_000})

        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            async with listening(app, limits=patient(write_timeout=SOON)) as port:
                reader = stack.enter_context(SlowReader(port))
                reader.socket.setblocking(False)
                num_read = 0
                while num_read < 355_000:  # the kernel keeps some 128 KB
                    num_read += len(await loop.sock_recv(reader.socket, 10_000))
            # The server waits for its connections, and says when it gives that up.
            assert "exceeded" not in capsys.readouterr().err

    async def test_who_reads_slowly_gets_everything(self) -> None:
        size = 2 * 2**20

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"content-length", b"%d" % size)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"x" * size})

        loop = asyncio.get_running_loop()
        async with listening(app, limits=patient(write_timeout=10)) as port:
            with SlowReader(port) as reader:
                reader.socket.setblocking(False)
                num_read = 0
                while data := await loop.sock_recv(reader.socket, 2**19):
                    num_read += len(data)
                    await asyncio.sleep(SOON / 100)
                    if num_read >= size:
                        break
        assert num_read >= size


class TestNumbers:
    async def test_more_get_503_and_health_is_still_answered(self) -> None:
        async with (
            AsyncExitStack() as stack,
            listening(echo, limits=patient(max_connections=2)) as port,
        ):
            first, _ = [await stack.enter_async_context(connect(port)) for _ in range(2)]
            await first.send(GET)
            await first.response()
            async with connect(port) as surplus:
                await surplus.send(GET)
                status, message = await refusal(surplus)
                assert status == b"http/1.1 503 service unavailable"
                assert "too many connections" in message
            async with connect(port) as silent:
                assert (await refusal(silent))[0] == b"http/1.1 503 service unavailable"
            async with connect(port) as surplus:
                await surplus.send(b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
                head, _ = await surplus.response()
                assert b" 200 " in head
                assert b"connection: close" in head
                assert await surplus.rest() == b""
            await first.send(GET)
            assert b" 200 " in (await first.response())[0]

    async def test_there_is_room_again_when_somebody_leaves(self) -> None:
        async with listening(echo, limits=patient(max_connections=1)) as port:
            for _ in range(3):
                head = b""
                while b" 200 " not in head:  # until the server has seen the one before leave
                    async with connect(port) as connection:
                        await connection.send(GET)
                        head, _ = await connection.response()
                        if b" 503 " in head:  # then the server closes it
                            assert await connection.rest() == b""
                        await connection.close()
                    await asyncio.sleep(0.01)  # mostly enough; else the next one is refused

    async def test_a_flood_is_refused_unheard(self) -> None:
        async with (
            AsyncExitStack() as stack,
            listening(echo, limits=patient(max_connections=1)) as port,
        ):
            crowd = [await stack.enter_async_context(connect(port)) for _ in range(60)]
            assert (await crowd[-1].response())[0].startswith(b"http/1.1 503 ")
            assert await crowd[-1].rest() == b""

    def test_there_are_no_more_connections_than_files(self) -> None:
        assert room_for_connections(None, 2**20) == 4096
        assert room_for_connections(None, 1024) == 864
        assert room_for_connections(800, 1024) == 800
        with pytest.raises(OptionError, match="864"):
            room_for_connections(1000, 1024)


async def test_a_loop_that_was_held_up_forgives() -> None:
    """What a client has sent meanwhile is read after the timers have run."""
    loop = asyncio.get_running_loop()
    expired = asyncio.Event()
    deadline = Deadline(loop, expired.set)
    deadline.set(loop.time() - 100)
    await asyncio.sleep(0.05)
    assert not expired.is_set()
    deadline.set(loop.time())
    await asyncio.wait_for(expired.wait(), 5)
