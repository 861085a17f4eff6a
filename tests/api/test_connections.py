"""What matters only on a real socket: bodies too large to send, versions of HTTP, reuse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from glmserve.config import ServerConfig
from support.fake_server import serve, tenants
from support.live_server import HOST, connect, listening

LIMIT = 1_000_000
COMPLETIONS = "/v1/completions"
KEY = {"Authorization": "Bearer key"}


def post(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {COMPLETIONS} HTTP/{version}", "Host: x", "Authorization: Bearer key"]
    lines += [f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def completion(**fields: object) -> bytes:
    body = {"model": "fake", "prompt": "hi", "temperature": 0, "max_tokens": 5, **fields}
    return json.dumps(body).encode()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = ServerConfig(served_model_name="fake", max_body_size=LIMIT, api_keys=tenants("key"))
    async with serve(config=config) as app, listening(app) as port:
        yield port


@pytest.fixture
async def client(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", headers=KEY) as client:
        yield client


async def test_a_client_that_sends_everything_first_reads_the_413(port: int) -> None:
    async with connect(port) as connection:
        await connection.send(post(b" " * 20_000_000))
        head, body = await connection.response()
        assert head.startswith(b"http/1.1 413 ")
        assert b"connection: close" in head
        assert json.loads(body)["error"]["code"] == "request_too_large"
        assert await connection.rest() == b""


@pytest.mark.parametrize("declared", [True, False])
async def test_httpx_reads_the_413(client: httpx.AsyncClient, declared: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 100_000

    content = b" " * 20_000_000 if declared else pieces()
    for _ in range(3):
        response = await client.post(COMPLETIONS, content=content)
        assert response.status_code == 413
        content = b" " * 20_000_000
    assert str(LIMIT) in response.json()["error"]["message"]


async def test_the_openai_sdk_reads_the_413(port: int) -> None:
    url = f"http://{HOST}:{port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="key", max_retries=0) as sdk:
        with pytest.raises(openai.APIStatusError) as caught:
            await sdk.completions.create(model="fake", prompt="x" * 20_000_000)
    assert caught.value.status_code == 413
    assert caught.value.code == "request_too_large"


async def test_a_401_comes_before_the_body_and_can_be_read(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as client:
        response = await client.post(COMPLETIONS, content=b" " * 20_000_000)
        assert response.status_code == 401


async def test_expect_100_continue(port: int) -> None:
    async with connect(port) as connection:
        request = post(completion(), "Expect: 100-continue")
        head, _, body = request.partition(b"\r\n\r\n")
        await connection.send(head + b"\r\n\r\n")
        assert (await connection.head()).startswith(b"http/1.1 100 ")
        await connection.send(body)
        assert (await connection.response())[0].startswith(b"http/1.1 200 ")


async def test_expect_100_continue_spares_a_body_that_is_too_large(port: int) -> None:
    async with connect(port) as connection:
        head = post(b" " * 20_000_000, "Expect: 100-continue").partition(b"\r\n\r\n")[0]
        await connection.send(head + b"\r\n\r\n")
        head, _ = await connection.response()
        assert head.startswith(b"http/1.1 413 ")
        assert b"connection: close" in head


async def test_a_connection_serves_again_after_streams_and_errors(port: int) -> None:
    async with connect(port) as connection:
        for _ in range(2):
            await connection.send(post(completion(stream=True)))
            assert b"chunked" in await connection.head()
            assert b"data: [DONE]" in await connection.until(b"\r\n0\r\n\r\n")
            await connection.send(post(completion()))
            assert b" 200 " in (await connection.response())[0]
            await connection.send(post(b"{"))
            assert b" 400 " in (await connection.response())[0]


async def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    async with connect(port) as connection:
        await connection.send(b"".join(post(completion(max_tokens=n)) for n in (1, 2, 3)))
        for n in (1, 2, 3):
            _, body = await connection.response()
            assert json.loads(body)["usage"]["completion_tokens"] == n


async def test_a_stream_to_an_http_1_0_client(port: int) -> None:
    async with connect(port) as connection:
        await connection.send(post(completion(stream=True), version="1.0"))
        assert b"transfer-encoding" not in await connection.head()
        lines = (await connection.rest()).split(b"\n\n")
        assert lines[-2:] == [b"data: [DONE]", b""]
        assert all(line.startswith(b"data: ") for line in lines[:-1])


async def test_head_of_a_page_has_its_length_and_no_body(port: int) -> None:
    async with connect(port) as connection:
        request = b" /v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: key\r\n\r\n"
        await connection.send(b"HEAD" + request)
        head = await connection.head()
        await connection.send(b"GET" + request)
        _, body = await connection.response()
        assert b"content-length: %d\r\n" % len(body) in head


@pytest.mark.parametrize(
    "path", ["/%00", "/%ff%fe", "/%", "/%zz", "/" + "x" * 20_000, "/v1/models/%00", "//", "/../v1"]
)
async def test_odd_paths_are_not_found(port: int, path: str) -> None:
    async with connect(port) as connection:
        await connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nx-api-key: key\r\n\r\n".encode())
        head, body = await connection.response()
        assert head.startswith(b"http/1.1 404 ")
        assert len(json.loads(body)["error"]["message"]) < 1000


@pytest.mark.parametrize("host", ["", "[", "a b", "x:99999999", "é"])
async def test_odd_hosts_are_no_failure(port: int, host: str) -> None:
    request = f"GET /nowhere HTTP/1.1\r\nHost: {host}\r\nx-api-key: key\r\n\r\n"
    async with connect(port) as connection:
        await connection.send(request.encode())
        assert (await connection.response())[0].startswith(b"http/1.1 404 ")
