"""A prompt that is too long is refused in the words by which clients recognise it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from glmserve.contract.step import RunnerLimits
from support.fakes import FakeRunner
from support.scripted import ScriptedRunner

OPENAI = re.compile(
    r"This model's maximum context length is 128 tokens\. However, you requested (\d+) tokens "
    r"\((\d+) in the (prompt|messages|input), (\d+) in the completion\)\. "
    r"Please reduce the length of the \3 or completion\."
)


def chat(size: int, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "x" * size}], **fields}


@pytest.mark.parametrize(
    ("path", "body", "param", "source"),
    [
        ("/v1/chat/completions", chat(200), "messages", "messages"),
        ("/v1/chat/completions", chat(50, max_tokens=100), "max_tokens", "messages"),
        ("/v1/chat/completions/render", chat(200), "messages", "messages"),
        ("/v1/completions", {"prompt": "x" * 200}, "prompt", "prompt"),
        ("/v1/completions", {"prompt": "x" * 50, "max_tokens": 100}, "max_tokens", "prompt"),
        ("/v1/completions/render", {"prompt": "x" * 200}, "prompt", "prompt"),
        ("/v1/responses", {"input": "x" * 200}, "input", "input"),
        (
            "/v1/responses",
            {"input": "x" * 50, "max_output_tokens": 100},
            "max_output_tokens",
            "input",
        ),
    ],
)
async def test_openai_s_words(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], param: str, source: str
) -> None:
    response = await client.post(path, json={"model": "fake", **body})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", param)
    match = OPENAI.fullmatch(error["message"])
    assert match is not None, error["message"]
    requested, prompt, named, new = match.groups()
    assert named == source
    assert int(requested) == int(prompt) + int(new) > 128


async def test_an_embedding_has_no_completion(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/embeddings", json={"model": "fake", "input": "x" * 200})
    message = response.json()["error"]["message"]
    match = OPENAI.fullmatch(message)
    assert match is not None
    assert match.groups() == ("200", "200", "input", "0")


@pytest.mark.parametrize(
    ("size", "max_tokens", "message"),
    [
        (200, 4, r"prompt is too long: 206 tokens > 128 maximum"),
        (5000, 4, r"prompt is too long: \d+ tokens > 128 maximum"),
    ],
)
async def test_anthropic_s_words(
    client: httpx.AsyncClient, size: int, max_tokens: int, message: str
) -> None:
    body = {"model": "fake", "max_tokens": max_tokens, **chat(size)}
    response = await client.post("/v1/messages", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert re.fullmatch(message, error["message"]), error["message"]
    tokens = re.search(r"(\d+) tokens", error["message"])
    assert tokens is not None
    assert int(tokens[1]) > 128


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("max_tokens", "produced", "reason"),
    [
        (72, 72, "max_tokens"),
        (73, 72, "model_context_window_exceeded"),
        (128000, 72, "model_context_window_exceeded"),  # LiteLLM's default
    ],
)
async def test_a_message_ends_with_the_context(
    client: httpx.AsyncClient, max_tokens: int, produced: int, reason: str, stream: bool
) -> None:
    """As with Anthropic's models of today: clients ask for what their own models can write."""
    body = {"model": "fake", "max_tokens": max_tokens, "stream": stream, **chat(50)}
    response = await client.post("/v1/messages", json=body)
    assert response.status_code == 200, response.text
    if stream:
        lines = response.text.splitlines()
        events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
        (end,) = (event for event in events if event["type"] == "message_delta")
        found, usage = end["delta"]["stop_reason"], end["usage"]
    else:
        found, usage = response.json()["stop_reason"], response.json()["usage"]
    assert (found, usage["output_tokens"]) == (reason, produced)


async def test_a_message_that_the_cache_cannot_hold(make_client: Callable[..., Any]) -> None:
    """A runner whose KV cache is smaller than its context."""
    limits = RunnerLimits(
        num_blocks=16, block_size=4, max_sequences=4, max_step_tokens=64, max_context=128
    )
    client = await make_client(runner=FakeRunner(limits))
    response = await client.post(
        "/v1/messages", json={"model": "fake", "max_tokens": 40, **chat(50)}
    )
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(
        "input length and `max_tokens` exceed context limit: 56 + 40 > 64, "
    )


async def test_a_message_that_ends_before_the_context_ends_its_turn(
    make_client: Callable[..., Any],
) -> None:
    client = await make_client(runner=ScriptedRunner("Yes."))
    body = {"model": "fake", "max_tokens": 128000, **chat(50)}
    response = await client.post("/v1/messages", json=body)
    assert response.json()["stop_reason"] == "end_turn"
