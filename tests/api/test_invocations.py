"""SageMaker's paths: one for requests of every kind, and one for its health check."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from glmserve.config import ServerConfig
from support.fake_server import client_of, serve, tenants

MESSAGES = [{"role": "user", "content": "hi"}]
KINDS: list[tuple[dict[str, Any], str]] = [
    ({"messages": MESSAGES, "max_tokens": 3}, "chat.completion"),
    ({"prompt": "hi", "max_tokens": 3}, "text_completion"),
    ({"input": "hi"}, "list"),
]


@pytest.mark.parametrize(("fields", "kind"), KINDS, ids=[kind for _, kind in KINDS])
async def test_a_request_is_known_by_its_fields(
    client: httpx.AsyncClient, fields: dict[str, Any], kind: str
) -> None:
    answer = await client.post("/invocations", json={"model": "fake", **fields})
    assert answer.json()["object"] == kind


async def test_streams(client: httpx.AsyncClient) -> None:
    body = {"messages": MESSAGES, "max_tokens": 3, "stream": True, "model": "fake"}
    answer = await client.post("/invocations", json=body)
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"{", b"\xff", b'{"messages": 1}'])
async def test_what_is_no_request(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/invocations", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_the_health_check_needs_no_key() -> None:
    config = ServerConfig(served_model_name="fake", api_keys=tenants("key"))
    async with serve(config=config) as app, client_of(app) as client:
        assert (await client.get("/ping")).json() == {"status": "ready"}
        assert (await client.post("/ping")).status_code == 200
        assert (await client.post("/invocations", json={})).status_code == 401
