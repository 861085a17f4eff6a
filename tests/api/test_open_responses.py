"""The compliance suite of Open Responses, translated; see support/open_responses.py."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from support.fake_server import client_of, serve
from support.open_responses import IMAGE_INPUT, RESPONSE, TEMPLATES, problems, read_stream
from support.scripted import ScriptedRunner

CALL = (
    '<tool_call>{"name": "get_weather", "arguments": {"location": "San Francisco, CA"}}</tool_call>'
)


@pytest.mark.parametrize("name", TEMPLATES)
async def test_compliance(name: str) -> None:
    template = TEMPLATES[name]
    answer = CALL if "tool" in name else "Hello to you."
    async with serve(ScriptedRunner(answer)) as app, client_of(app) as client:
        body = {"model": "fake", **template.request, "stream": template.is_stream}
        response = await client.post("/v1/responses", json=body)
    assert response.status_code == 200, response.text
    stream = read_stream(response) if template.is_stream else None
    data: Any = stream.final_response if stream else response.json()
    found = problems(data, RESPONSE)
    assert not found
    assert [problem for check in template.checks for problem in check(data, stream)] == []


async def test_pictures_are_refused_by_name(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/responses", json={"model": "fake", **IMAGE_INPUT})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input.0.content.1.type"


@pytest.mark.parametrize("change", [{"usage": 1}, {"id": None}, {"output": [{"type": "message"}]}])
async def test_the_checks_find_what_is_wrong(
    client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    body = {"model": "fake", "input": "hi", "max_output_tokens": 3}
    response = (await client.post("/v1/responses", json=body)).json()
    assert not problems(response, RESPONSE)
    assert problems({**response, **change}, RESPONSE)
    del response["store"]
    assert problems(response, RESPONSE)
