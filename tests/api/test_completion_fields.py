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


async def test_fields_that_are_not_asked_for_are_null(client: httpx.AsyncClient) -> None:
    """In a whole answer; a stream does not have them."""
    names = ("token_ids", "prompt_token_ids", "prompt_logprobs")
    (choice,) = (await ask(client, prompt="x", max_tokens=2))["choices"]
    assert [choice[name] for name in names] == [None] * 3
    stream = await client.post(COMPLETIONS, json={"prompt": "x", "max_tokens": 2, "stream": True})
    assert not any(name in stream.text for name in names)


async def test_the_first_event_of_each_choice_has_the_prompt(client: httpx.AsyncClient) -> None:
    body = {"prompt": ["ab", "c"], "max_tokens": 2, "stream": True, "return_token_ids": True}
    stream = await client.post(COMPLETIONS, json=body)
    events = [json.loads(line[6:]) for line in stream.text.split("\n") if line[:7] == "data: {"]
    choices = [choice for event in events for choice in event["choices"]]
    for index, ids in enumerate([[97, 98], [99]]):
        found = [c.get("prompt_token_ids") for c in choices if c["index"] == index]
        assert found[0] == ids
        assert set(map(str, found[1:])) == {"None"}


async def test_no_prompt_in_any_form(client: httpx.AsyncClient) -> None:
    """The words are vLLM's, as far as they are true here."""
    body = {"model": "fake", "prompt": None, "prompt_embeds": []}
    error = (await client.post(COMPLETIONS, json=body)).json()["error"]
    assert error["param"] == "prompt"
    assert "Either prompt or prompt_embeds must be provided and non-empty." in error["message"]
