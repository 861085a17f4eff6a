"""What is not generation: models, metrics, documentation."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

from glmserve import __version__
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.api.protocol.base import accepted_fields
from glmserve.config import ServerConfig
from support.fake_server import client_of, serve


async def test_models(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    (model,) = body["data"]
    assert model.pop("created") > 1_600_000_000
    assert model == {
        "id": "fake",
        "object": "model",
        "owned_by": "glmserve",
        "root": "fake",
        "max_model_len": 128,
    }


async def test_every_name_is_a_model_of_its_own() -> None:
    names = ("org/fake", "other", "a b")
    config = ServerConfig(served_model_name=names[0], further_model_names=names[1:])
    async with serve(config=config) as app, client_of(app) as client:
        models = (await client.get("/v1/models")).json()["data"]
        assert [model["id"] for model in models] == list(names)
        assert {model["root"] for model in models} == {"org/fake"}
        for model in models:
            for path in (model["id"], quote(model["id"], safe="")):
                response = await client.get(f"/v1/models/{path}")
                assert response.json() == model
        for path in ("/v1/models/", "/api/paas/v4/models", "/api/coding/paas/v4/models"):
            assert (await client.get(path)).json()["data"] == models
        for name in ("fake", "org"):
            response = await client.get(f"/v1/models/{name}")
            assert response.status_code == 404
            assert response.json()["error"]["code"] == "model_not_found"
            assert "'other'" in response.json()["error"]["message"]
        body = {"model": "other", "prompt": "x", "max_tokens": 1}
        assert (await client.post("/v1/completions", json=body)).status_code == 200


async def test_version(client: httpx.AsyncClient) -> None:
    assert (await client.get("/version")).json() == {"version": __version__}


async def test_ready(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/health/started", "/health/ready", "/health/live"):
        assert (await client.get(path)).status_code == 200


async def test_metrics_count_what_happened(client: httpx.AsyncClient) -> None:
    await client.post("/v1/completions", json={"model": "fake", "prompt": "abc", "max_tokens": 5})
    text = (await client.get("/metrics")).text
    for line in (
        'glmserve_output_tokens_total{model_name="fake"} 5.0',
        'glmserve_prompt_tokens_total{model_name="fake"} 3.0',
        'glmserve_time_to_first_token_seconds_count{model_name="fake"} 1.0',
        'glmserve_inter_token_latency_seconds_count{model_name="fake"} 4.0',
        'glmserve_requests_finished_total{model_name="fake",reason="length"} 1.0',
        'glmserve_requests_running{model_name="fake"} 0.0',
        'glmserve_requests_waiting{model_name="fake"} 0.0',
        'glmserve_preemptions_total{model_name="fake"} 0.0',
        'glmserve_prefix_cache_queries_total{model_name="fake"} 3.0',
        'glmserve_prefix_cache_hits_total{model_name="fake"} 0.0',
        'glmserve_drafted_tokens_total{model_name="fake"} 0.0',
        'glmserve_accepted_tokens_total{model_name="fake"} 0.0',
        'glmserve_kv_cache_usage_ratio{model_name="fake"} 0.0',
    ):
        assert line in text


async def test_openapi_describes_every_route_and_field(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    app: Starlette = client._transport.app  # type: ignore[attr-defined]
    for_people = {"/", "/board", "/page/{version}/{name:path}"}
    listed = [route for route in app.routes if getattr(route, "path", None) not in for_people]
    assert len(listed) + len(for_people) == len(app.routes)
    routes = [route for route in listed if isinstance(route, Route)]
    sockets = [route.path for route in app.routes if isinstance(route, WebSocketRoute)]
    assert sockets == ["/v1/responses"]  # OpenAPI has no word for WebSockets
    assert len(routes) + len(sockets) == len(listed)
    described = {(path, m.upper()) for path, item in document["paths"].items() for m in item}
    assert described == {
        (r.path_format, m) for r in routes for m in (r.methods or set()) - {"HEAD"}
    }
    chat = document["components"]["schemas"]["ChatCompletionRequest"]
    assert chat["properties"].keys() == {
        *ChatCompletionRequest.model_fields,
        *accepted_fields(ChatCompletionRequest),
    }
    assert chat["additionalProperties"] is False


async def test_openapi_describes_every_body(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = [o for item in document["paths"].values() for o in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        for response in operation["responses"].values():
            assert all(media["schema"] for media in response["content"].values())
    for reference in re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(document)):
        node = document
        for part in reference.split("/"):
            node = node[part]


async def test_openapi_is_valid(client: httpx.AsyncClient) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate((await client.get("/openapi.json")).json())


async def test_docs_need_no_internet(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs")
    assert response.headers["content-type"].startswith("text/html")
    assert not re.findall(r"https?://", response.text)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text"),
        ("application/openmetrics-text;q=0, */*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;q=0.1, text/plain", "text/plain; version=0.0.4"),
        ("text/plain;q=0.5, application/openmetrics-text", "application/openmetrics-text"),
        ("text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2", "text/plain; version=1"),
        ("application/openmetrics-text;version=0.0.1,text/plain;q=0.1", "text/plain; version=0"),
        ("application/openmetrics-text;version=99.0.0", "text/plain; version=0.0.4"),
        ("text/plain;version=x", "text/plain; version=0.0.4"),
    ],
)
async def test_metrics_have_the_format_that_was_asked_for(
    client: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    response = await client.get("/metrics", headers={"accept": accept})
    assert response.headers["content-type"].startswith(media_type)
    assert ("# EOF" in response.text) == ("openmetrics" in media_type)
    assert 'glmserve_requests_running{model_name="fake"} 0.0' in response.text


async def test_a_proxy_may_keep_or_remove_the_root_path() -> None:
    config = ServerConfig(served_model_name="fake", root_path="/glm")
    async with serve(config=config) as app, client_of(app) as client:
        for path in ("/v1/models", "/glm/v1/models"):
            assert (await client.get(path)).json()["data"][0]["id"] == "fake"
        assert (await client.get("/glmer/v1/models")).status_code == 404
        to_folder = await client.get("/glm")
        assert (to_folder.status_code, to_folder.headers["location"]) == (308, "glm/")
        assert (await client.get("/glm/openapi.json")).json()["servers"] == [{"url": "/glm"}]


async def test_a_request_without_a_model_gets_the_served_one(client: httpx.AsyncClient) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    text = {"prompt": "hi", "max_tokens": 2}
    for path, body in (("/v1/chat/completions", chat), ("/v1/completions", text)):
        assert (await client.post(path, json=body)).json()["model"] == "fake"
    assert (await client.post("/v1/embeddings", json={"input": "hi"})).json()["model"] == "fake"
