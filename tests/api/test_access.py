"""API keys, request ids and CORS: what stands in front of every route."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from glmserve.api.http.auth import ApiKeyMiddleware, ApiKeys
from glmserve.api.http.state import caller_of
from glmserve.api.operator.health import metrics
from glmserve.config import ServerConfig
from support.fake_server import client_of, serve, tenants

PAGES = ("/v1/models", "/v1/models/fake", "/metrics", "/version", "/openapi.json")
KEYS = ("first", "sécret", "third")
ORIGIN = "https://example.org"


@pytest.fixture
async def guarded() -> AsyncIterator[httpx.AsyncClient]:
    config = ServerConfig(served_model_name="fake", api_keys=tenants(*KEYS), cors_origins=(ORIGIN,))
    async with serve(config=config) as app, client_of(app) as client:
        yield client


@pytest.mark.parametrize(
    "path", [*PAGES, "/nowhere", "/v1/embeddings", "/healthy", "http://test//health"]
)
async def test_without_a_key_everything_is_denied(guarded: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
        response = await guarded.request(method, path)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    error = (await guarded.get(path)).json()["error"]
    assert error["code"] == "invalid_api_key"
    assert "Bearer" in error["message"]


@pytest.mark.parametrize("key", KEYS)
async def test_every_key_is_valid_in_either_header(guarded: httpx.AsyncClient, key: str) -> None:
    raw = key.encode()
    for headers in ({"Authorization": b"Bearer " + raw}, {"Authorization": b"bearer  " + raw}):
        assert (await guarded.get("/v1/models", headers=headers)).status_code == 200
    assert (await guarded.get("/v1/models", headers={"x-api-key": raw})).status_code == 200
    both = {"Authorization": "Bearer x", "x-api-key": raw}
    assert (await guarded.get("/nowhere", headers=both)).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong-key"},
        {"Authorization": "Bearer firs"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic first"},
        {"Authorization": "first"},
        {"x-api-key": "wrong-key"},
        {"x-api-key": ""},
    ],
)
async def test_wrong_keys(guarded: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await guarded.get("/v1/models", headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert "wrong-key" not in response.text


async def test_health_needs_no_key(guarded: httpx.AsyncClient) -> None:
    for path in ("/health", "/health/live", "/health/started", "/health/ready"):
        assert (await guarded.get(path)).status_code == 200
    assert (await guarded.get("/health/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("flag", "opened"),
    [("public_metrics", {"/metrics"}), ("public_docs", {"/openapi.json"})],
)
async def test_pages_can_be_made_public(flag: str, opened: set[str]) -> None:
    config = ServerConfig(served_model_name="fake", api_keys=tenants(*KEYS), **{flag: True})  # type: ignore[arg-type]
    async with serve(config=config) as app, client_of(app) as client:
        for path in PAGES:
            status = 200 if path in opened else 401
            assert (await client.get(path)).status_code == status


@given(st.lists(st.text(min_size=1), max_size=5), st.text())
def test_exactly_the_valid_keys_are_identified(valid: list[str], key: str) -> None:
    keys = ApiKeys(tenants(*valid))
    assert (keys.identify(key.encode()) is not None) == (key in valid)
    callers = [keys.identify(k.encode()) for k in valid]
    ids = {caller.key_id for caller in callers if caller}
    assert len(ids) == len(set(valid))
    assert not any(k in str(key_id) for k in valid if len(k) > 4 for key_id in ids)


async def test_handlers_learn_whose_key_it_is() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(caller_of(Request(scope)).key_id)

    guarded = ApiKeyMiddleware(app, ApiKeys(tenants(*KEYS)), ["/metrics"])
    for key in (b"first", b"third", b"first", b"wrong"):
        scope = {"type": "http", "path": "/metrics", "headers": [(b"x-api-key", key)]}
        await guarded(scope, None, None)  # type: ignore[arg-type]
    first, third, again, wrong = seen
    assert first == again != third
    assert wrong is None
    assert caller_of(Request({"type": "http"})).key_id is None


async def test_a_request_id_is_returned_or_made(guarded: httpx.AsyncClient) -> None:
    for path in ("/health", "/nowhere"):
        theirs = await guarded.get(path, headers={"X-Request-Id": "abc-1"})
        assert theirs.headers.get_list("x-request-id") == ["abc-1"]
        made = {(await guarded.get(path)).headers["x-request-id"] for _ in range(3)}
        assert len(made) == 3


@pytest.mark.parametrize("bad", ["", "a b", "a\tb", "x" * 129, "é", "a\x7f"])
async def test_an_invalid_request_id_is_replaced(guarded: httpx.AsyncClient, bad: str) -> None:
    response = await guarded.get("/health", headers={"X-Request-Id": bad.encode("latin-1")})
    assert response.headers["x-request-id"].isalnum()


async def test_a_bug_is_answered_and_logged_with_its_request_id(
    guarded: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(accept: str) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setitem(metrics.__globals__, "choose_encoder", broken)
    headers = {"X-Request-Id": "abc-1", "x-api-key": "first", "Origin": ORIGIN}
    with caplog.at_level(logging.ERROR):
        response = await guarded.get("/metrics", headers=headers)
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "abc-1"
    assert response.headers["access-control-allow-origin"] == ORIGIN
    (record,) = caplog.records
    assert "abc-1" in record.getMessage()
    assert "ZeroDivisionError" in record.getMessage()
    assert "in broken" in record.getMessage()
    assert "secret" not in record.getMessage().replace('raise ZeroDivisionError("a secret")', "")
    assert record.exc_info is None


async def test_cors_preflight_needs_no_key(guarded: httpx.AsyncClient) -> None:
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    response = await guarded.options("/v1/chat/completions", headers=headers)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in response.headers["access-control-allow-headers"]
    strangers = headers | {"Origin": "https://elsewhere.org"}
    response = await guarded.options("/v1/chat/completions", headers=strangers)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "Disallowed CORS origin"
    assert "Origin" in response.headers["vary"]
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(("key", "status"), [("", 401), ("first", 404)])
async def test_errors_carry_cors_headers(guarded: httpx.AsyncClient, key: str, status: int) -> None:
    headers = {"Origin": ORIGIN, "x-api-key": key}
    response = await guarded.get("/nowhere", headers=headers)
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "X-Request-Id" in response.headers["access-control-expose-headers"]
    strangers = headers | {"Origin": "https://elsewhere.org"}
    response = await guarded.get("/nowhere", headers=strangers)
    assert "access-control-allow-origin" not in response.headers


async def test_without_the_option_there_is_no_cors(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models", headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("access-control")]
