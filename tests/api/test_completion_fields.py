"""Fields of completions that chat completions do not have, or have otherwise."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

COMPLETIONS = "/v1/completions"
PREFIX = [7, 8]


async def ask(client: httpx.AsyncClient, path: str = COMPLETIONS, **fields: Any) -> Any:
    response = await client.post(path, json={"model": "fake", **fields})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("adds", [True, False])
async def test_marks_around_a_text_can_be_left_out(
    client: httpx.AsyncClient, *, adds: bool
) -> None:
    tokenizer = client._transport.app.state.context.tokenizer  # type: ignore[attr-defined]
    tokenizer._prompt_prefix = PREFIX
    expected = [*(PREFIX if adds else []), 97]
    fields = {"prompt": "a", "max_tokens": 1, "add_special_tokens": adds}
    answer = await ask(client, return_token_ids=True, **fields)
    assert answer["choices"][0]["prompt_token_ids"] == expected
    (prompt,) = await ask(client, f"{COMPLETIONS}/render", **fields)
    assert prompt["token_ids"] == expected
    vectors = await ask(client, "/v1/embeddings", input="a", add_special_tokens=adds)
    assert vectors["usage"]["prompt_tokens"] == len(expected)


async def test_a_response_format(client: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {**schema, "additionalProperties": False}},
    }
    answer = await ask(client, prompt="x", max_tokens=60, response_format=wanted)
    assert json.loads(answer["choices"][0]["text"])["a"] in (1, 2)
    plain = await ask(client, prompt="x", max_tokens=5, temperature=0)
    text = {"response_format": {"type": "text"}}
    same = await ask(client, prompt="x", max_tokens=5, temperature=0, **text)
    assert same["choices"] == plain["choices"]


async def test_a_response_format_and_another_structure(client: httpx.AsyncClient) -> None:
    body = {"model": "fake", "prompt": "x", "guided_choice": ["a"]}
    response = await client.post(
        COMPLETIONS, json={**body, "response_format": {"type": "json_object"}}
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] in ("response_format", "guided_choice")


async def test_the_default_of_chat_s_logprobs(client: httpx.AsyncClient) -> None:
    answer = await ask(client, prompt="x", max_tokens=1, logprobs=False)
    assert answer["choices"][0]["logprobs"] is None
