"""POST /v1/embeddings over FakeRunner, whose sum of hidden states is the sum of the ids."""

from __future__ import annotations

import base64
import struct
from typing import Any

import httpx
import pytest

from support.fakes import FakeRunner

EMBEDDINGS = "/v1/embeddings"


@pytest.mark.parametrize(
    ("value", "num_tokens"),
    [("abc", [3]), (["a", "bcd"], [1, 3]), ([5, 6], [2]), ([[1], [2]], [1, 1])],
)
async def test_one_vector_per_input(
    client: httpx.AsyncClient, value: Any, num_tokens: list[int]
) -> None:
    response = await client.post(EMBEDDINGS, json={"model": "fake", "input": value})
    assert response.status_code == 200, response.text
    assert response.json() == {
        "object": "list",
        "model": "fake",
        "data": [
            {"object": "embedding", "index": i, "embedding": [1.0]} for i in range(len(num_tokens))
        ],
        "usage": {"prompt_tokens": sum(num_tokens), "total_tokens": sum(num_tokens)},
    }


async def test_base64_and_direction(make_client: Any) -> None:
    class Wide(FakeRunner):
        def execute(self, step: Any, masks: Any = list) -> Any:
            output = super().execute(step, masks)
            pooled = [struct.pack("2f", 3.0, -4.0) for _ in output.pooled]
            return type(output)(step.step_id, output.token_ids, [], [], pooled)

    client = await make_client(runner=Wide())
    body = {"model": "fake", "input": "x" * 100, "encoding_format": "base64"}
    data = (await client.post(EMBEDDINGS, json=body)).json()["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(data)) == pytest.approx((0.6, -0.8))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": ["x", ""]}, "input"),
        ({"input": [[5], []]}, "input"),
        ({"input": []}, "input"),
        ({"input": [10**6]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": "x", "dimensions": 100_000}, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x" * 500}, None),
    ],
)
async def test_refused(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str | None
) -> None:
    response = await client.post(EMBEDDINGS, json={"model": "fake", **fields})
    assert response.status_code == 400
    assert param is None or response.json()["error"]["param"] == param


async def test_dimensions(client: httpx.AsyncClient) -> None:
    body = {"model": "fake", "input": "hi"}
    whole = (await client.post(EMBEDDINGS, json=body)).json()["data"][0]["embedding"]
    for size in (1, len(whole)):
        response = await client.post(EMBEDDINGS, json={**body, "dimensions": size})
        vector = response.json()["data"][0]["embedding"]
        assert len(vector) == size
        assert sum(x * x for x in vector) == pytest.approx(1)
        assert vector[0] * whole[0] > 0
    response = await client.post(EMBEDDINGS, json={**body, "dimensions": 100_000})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "dimensions"


async def test_an_input_that_is_too_long(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/embeddings", json={"model": "fake", "input": "x" * 129})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
