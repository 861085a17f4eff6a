"""What is not generation: models, metrics, documentation."""

from __future__ import annotations

import re

import httpx

from glmserve.api.protocol import ChatCompletionRequest


async def test_models(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    (model,) = body["data"]
    assert model["id"] == "fake"
    assert model["object"] == "model"
    assert model["max_model_len"] == 128


async def test_ready(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/health/ready", "/health/live"):
        assert (await client.get(path)).status_code == 200


async def test_metrics_count_what_happened(client: httpx.AsyncClient) -> None:
    await client.post("/v1/completions", json={"model": "fake", "prompt": "abc", "max_tokens": 5})
    text = (await client.get("/metrics")).text
    for line in (
        "glmserve_output_tokens_total 5.0",
        "glmserve_prompt_tokens_total 3.0",
        "glmserve_time_to_first_token_seconds_count 1.0",
        "glmserve_inter_token_latency_seconds_count 4.0",
        'glmserve_requests_finished_total{reason="length"} 1.0',
        "glmserve_requests_running 0.0",
        "glmserve_requests_waiting 0.0",
        "glmserve_preemptions_total 0.0",
        "glmserve_prefix_cache_queries_total 3.0",
        "glmserve_prefix_cache_hits_total 0.0",
        "glmserve_kv_cache_usage_ratio 0.0",
    ):
        assert line in text


async def test_openapi_describes_every_route_and_field(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    routes = {route.path for route in client._transport.app.routes}  # type: ignore[attr-defined]
    assert document["paths"].keys() == routes
    chat = document["components"]["schemas"]["ChatCompletionRequest"]
    assert chat["properties"].keys() == ChatCompletionRequest.model_fields.keys()
    assert chat["additionalProperties"] is False


async def test_docs_need_no_internet(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs")
    assert response.headers["content-type"].startswith("text/html")
    assert not re.findall(r"https?://", response.text)
