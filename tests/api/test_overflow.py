"""A prompt that is too long is refused in the words by which clients recognise it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

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
        (50, 100, r"input length and `max_tokens` exceed context limit: 56 \+ 100 > 128, .*"),
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
    if "prompt" in message:
        tokens = re.search(r"(\d+) tokens", error["message"])
        assert tokens is not None
        assert int(tokens[1]) > 128
