"""Structured, scored, many-choice and plain requests in one batch: each is answered as if alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from support.response_compare import essence, nearly
from support.server_process import ServerProcess

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 4},
        "size": {"type": "number", "minimum": 0, "maximum": 10},
    },
    "required": ["name", "tags"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and body of requests of every kind, greedy and sampled."""
    for seed in range(4):
        common = {"model": "glm-tiny", "max_tokens": 80, "temperature": seed % 2, "seed": seed}
        chat = {**common, "messages": [{"role": "user", "content": f"Tell me of number {seed}."}]}
        for extra in (
            {"guided_json": SCHEMA},
            {"guided_regex": "[a-z]{3,9}( [a-z]{3,9}){2}"},
            {"bad_words": ["a", "的"], "logprobs": True, "top_logprobs": 2},
            {"tools": [WEATHER], "tool_choice": "required"},
            {"n": 3, "logprobs": True, "ignore_eos": True},
            {"min_tokens": 30, "stop": ["e", "。"]},
            {"ignore_eos": True},
        ):
            yield "/v1/chat/completions", chat | extra
        text = {**common, "prompt": ["The answer is", "一二三"], "max_tokens": 12}
        for extra in ({"echo": True, "logprobs": 2}, {"n": 2, "best_of": 3}):
            yield "/v1/completions", text | extra


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--kv-cache-tokens", "384", "--max-model-len", "384")])
async def test_every_kind_of_request_is_answered_as_if_alone(options: tuple[str, ...]) -> None:
    requests = list(bodies())
    with ServerProcess("--dtype", "float32", *options) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:

            async def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
                response = await client.post(path, json=body)
                assert response.status_code == 200, response.text
                return response.json()  # type: ignore[no-any-return]

            together = await asyncio.gather(*(ask(*request) for request in requests))
            if options:
                assert server.metric("glmserve_preemptions_total") > 0
            for request, answer in zip(requests, together, strict=True):
                alone = essence(await ask(*request))
                assert alone == nearly(essence(answer)), request
        server.wait_until_idle()
    for (_, body), answer in zip(requests, together, strict=True):
        check(body, answer)


def check(body: dict[str, Any], answer: dict[str, Any]) -> None:
    """Answers that came to their end are what was asked for."""
    for choice in answer["choices"]:
        if choice["finish_reason"] == "length":
            continue
        if "guided_json" in body:
            jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
        if "bad_words" in body:
            assert not any(word in choice["message"]["content"] for word in body["bad_words"])
        if "tools" in body:
            (call, *_) = choice["message"]["tool_calls"]
            parameters = WEATHER["function"]["parameters"]
            jsonschema.validate(json.loads(call["function"]["arguments"]), parameters)
