"""A server that drafts says what one says that does not, to the last field of the usage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.response_compare import essence, nearly
from support.server_process import ServerProcess

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def speculating() -> Iterator[ServerProcess]:
    with ServerProcess("--dtype", "float32", "--speculative-tokens", "6") as server:
        yield server


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """16 requests of all kinds, greedy and sampled."""
    for seed in range(2):
        common = {"model": "glm-tiny", "max_tokens": 60, "temperature": seed, "seed": seed}
        repeating = {**common, "prompt": "The blue door is open. " * 6, "ignore_eos": True}
        question = [{"role": "user", "content": "What is glmserve? What is glmserve?"}]
        chat = {**common, "messages": question}
        for extra in (
            {},
            {"stop": [" door is"]},
            {"n": 3, "max_tokens": 25},
            {"logprobs": 2, "max_tokens": 30},
        ):
            yield "/v1/completions", repeating | extra
        for extra in (
            {},
            {"ignore_eos": True, "max_tokens": 200},
            {"presence_penalty": 0.5, "min_tokens": 40},
            {"tools": [WEATHER], "tool_choice": "required"},
        ):
            yield "/v1/chat/completions", chat | extra


async def ask_all(url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        responses = await asyncio.gather(*(client.post(p, json=b) for p, b in bodies()))
    for response in responses:
        assert response.status_code == 200, response.text
    return [response.json() for response in responses]


async def test_the_same_answers(glm_tiny: ServerProcess, speculating: ServerProcess) -> None:
    without, drafted = [await ask_all(server.url) for server in (glm_tiny, speculating)]
    for request, answer, expected in zip(bodies(), drafted, without, strict=True):
        assert essence(answer) == nearly(essence(expected)), request
    accepted = speculating.metric("glmserve_accepted_tokens_total")
    assert 0 < accepted <= speculating.metric("glmserve_drafted_tokens_total")
    assert glm_tiny.metric("glmserve_drafted_tokens_total") == 0
    speculating.wait_until_idle()


@pytest.mark.slow
async def test_the_same_stream(speculating: ServerProcess) -> None:
    _, body = next(bodies())
    async with httpx.AsyncClient(base_url=speculating.url, timeout=60) as client:
        whole = (await client.post("/v1/completions", json=body)).json()
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = (await client.post("/v1/completions", json=body | options)).text
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    text = "".join(choice["text"] for event in events for choice in event["choices"])
    assert text == whole["choices"][0]["text"]
    assert events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
