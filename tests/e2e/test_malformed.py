"""Requests that are none: each is answered, none is a server's failure, and none stops it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmserve.api.protocol import ChatCompletionRequest, CompletionRequest
from support.server_process import ServerProcess

PATHS = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/tokenize",
    "/detokenize",
)
FIELDS = sorted(
    {
        field.alias or name
        for m in (ChatCompletionRequest, CompletionRequest)
        for name, field in m.model_fields.items()
    }
    | {"input", "tokens", "system", "max_output_tokens", "previous_response_id"}
)
many = settings(
    max_examples=250, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)

extremes: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2**31,
        2**63,
        2**64,
        -(2**63) - 1,
        1e308,
        -0.0,
        "",
        "\0",
        "\ud800",
        "中" * 99,
        [],
        {},
        [[]],
        [None],
        [-1],
        [2**31],
        [10**9],
        ["", ""],
        [[1, 2], "x"],
        {"": None},
        {"-1": 1},
        {"999999999": 100},
        {"type": "json_object"},
        {"type": "image_url"},
        [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "http://[::1]/"}}],
            }
        ],
        [{"role": "user", "content": "x"}],
        [{"role": "tool", "content": "x"}],
        "glm-tiny",
        "../../etc",
    ]
)
values = extremes | st.recursive(
    extremes | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)
valid: dict[str, Any] = {"model": "glm-tiny", "max_tokens": 3}
prompts = st.sampled_from(
    [{"prompt": "x"}, {"messages": [{"role": "user", "content": "x"}]}, {"input": "x"}, {}]
)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(
        "--device", "null", "--header-timeout", "2", "--body-timeout", "2"
    ) as server:
        yield server
        check_serves(server)
        assert "ERROR" not in server.text


def check_serves(server: ServerProcess) -> None:
    body = {"model": "glm-tiny", "prompt": "x", "max_tokens": 3}
    assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 200


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@many
@given(path=st.sampled_from(PATHS), prompt=prompts, fields=bodies)
def test_fields(client: httpx.Client, path: str, prompt: dict[str, Any], fields: Any) -> None:
    content = json.dumps(valid | prompt | fields).encode()  # NaN and half characters included
    check_answer(client.post(path, content=content))


@many
@given(
    path=st.sampled_from(PATHS),
    body=st.binary(max_size=200),
    kind=st.sampled_from(
        ["application/json", "text/plain", "multipart/form-data; boundary=x", "\x7f", ""]
    ),
)
def test_bodies(client: httpx.Client, path: str, body: bytes, kind: str) -> None:
    check_answer(client.post(path, content=body, headers={"content-type": kind}))


@many
@given(
    path=st.sampled_from(PATHS),
    prompt=prompts,
    cut=st.integers(0, 200),
    put=st.binary(max_size=5),
)
def test_damaged_json(
    client: httpx.Client, path: str, prompt: dict[str, Any], cut: int, put: bytes
) -> None:
    content = json.dumps(valid | prompt).encode()
    check_answer(client.post(path, content=content[:cut] + put + content[cut + 1 :]))


def check_answer(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        assert response.json()["error"]["message"]


names = st.sampled_from(
    [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Expect",
        "Upgrade",
        "Origin",
        "Content-Encoding",
        "X-Request-Id",
        "Authorization",
        "x-api-key",
        "Range",
        "Accept",
        "a b",
        "",
    ]
)
header_values = st.sampled_from(
    [
        "0",
        "5",
        "-1",
        "+5",
        "0x5",
        "5, 5",
        "99999999999999999999",
        "chunked",
        "chunked, chunked",
        "gzip, chunked",
        "\tchunked",
        "close",
        "upgrade",
        "h2c",
        "100-continue",
        "x\r\n y",
        "\0",
        "é" * 9,
        "Bearer \xff",
        "a" * 9000,
        "",
    ]
)
lines = st.sampled_from(
    [
        "POST /v1/completions HTTP/1.1",
        "GET / HTTP/1.1",
        "GET /v1/models/%2e%2e%2f HTTP/1.1",
        "GET /v1/models/..%00 HTTP/1.0",
        "POST * HTTP/1.1",
        "GET http://x:99999/ HTTP/1.1",
        "GET / HTTP/0.9",
        "PRI * HTTP/2.0",
        "CONNECT x:1 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "get / http/1.1",
        "",
        "\x16\x03\x01",
    ]
)
chunks = st.sampled_from(
    [
        "",
        "{}",
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "-1\r\nx",
        "1;" + "a" * 70_000,
        "5\r\nhelloworld",
        "G\r\n",
        "0\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ]
)


@many
@given(
    line=lines,
    headers=st.lists(st.tuples(names, header_values), max_size=4),
    body=chunks,
    noise=st.binary(max_size=3),
    is_noise_first=st.booleans(),
)
def test_bytes(
    server: ServerProcess,
    line: str,
    headers: list[tuple[str, str]],
    body: str,
    noise: bytes,
    is_noise_first: bool,
) -> None:
    head = "\r\n".join([line, *(f"{name}: {value}" for name, value in headers), "", ""])
    data = (head + body).encode("latin-1")
    answer = exchange(server, noise + data if is_noise_first else data + noise)
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert all(status < b"500" for status in statuses), answer


def exchange(server: ServerProcess, data: bytes) -> bytes:
    """Send it, say that this was all, and read until the server closes."""
    answer = b""
    with socket.create_connection(server.address, timeout=30) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while more := client.recv(2**16):
                answer += more
        except ConnectionError:
            pass
    return answer
