"""A last message by the assistant: its continuation is the answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "hi"}
BEGUN = {"role": "assistant", "content": "The answer is"}
CALLS = {
    "role": "assistant",
    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
}


async def prompt_of(client: httpx.AsyncClient, **fields: Any) -> str:
    """The prompt of a request, as the byte tokenizer writes it."""
    body = {"model": "fake", "max_tokens": 4, "return_token_ids": True, **fields}
    response = await client.post(CHAT, json=body)
    assert response.status_code == 200, response.text
    return bytes(response.json()["prompt_token_ids"]).decode()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"continue_final_message": True},
        {"continue_final_message": True, "add_generation_prompt": False},
        {"add_generation_prompt": False},
        {"messages": [USER, {**BEGUN, "prefix": True}]},
        {"messages": [USER, {**BEGUN, "partial": True}], "continue_final_message": False},
        {"tools": [], "tool_choice": "auto"},
    ],
)
async def test_the_last_message_is_continued(
    client: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    prompt = await prompt_of(client, **{"messages": [USER, BEGUN], **fields})
    assert prompt == "user:hi\nThe answer is"


@pytest.mark.parametrize(
    "fields",
    [
        {"continue_final_message": False},
        {"response_format": {"type": "json_object"}},
    ],
)
async def test_a_new_message_follows(client: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    prompt = await prompt_of(client, messages=[USER, BEGUN], **fields)
    assert prompt == "user:hi\nassistant:The answer is\n"


async def test_a_message_with_calls_is_followed_by_a_new_one(client: httpx.AsyncClient) -> None:
    assert (await prompt_of(client, messages=[USER, CALLS])).endswith("\n")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [USER], "continue_final_message": True}, "continue_final_message"),
        ({"messages": [USER, CALLS], "continue_final_message": True}, "continue_final_message"),
        ({"messages": [{**BEGUN, "prefix": True}, USER]}, "messages.0.prefix"),
        (
            {
                "messages": [USER, BEGUN],
                "continue_final_message": True,
                "response_format": {"type": "json_object"},
            },
            "response_format",
        ),
        ({"messages": [USER, BEGUN], "continue_final_message": "yes"}, "continue_final_message"),
    ],
)
async def test_what_cannot_be_continued_is_refused(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await client.post(CHAT, json={"model": "fake", "max_tokens": 4, **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_the_beginning_can_be_echoed(client: httpx.AsyncClient) -> None:
    body = {"model": "fake", "messages": [USER, BEGUN], "max_tokens": 4, "temperature": 0}
    plain = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]["content"]
    body["echo"] = True
    echoed = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]["content"]
    assert echoed == "The answer is" + plain
    response = await client.post(CHAT, json={**body, "stream": True})
    chunks = [json.loads(line[6:]) for line in response.text.split("\n\n")[:-2]]
    texts = [c["choices"][0]["delta"].get("content") or "" for c in chunks]
    assert "".join(texts) == echoed
    body["messages"] = [USER]
    answer = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]["content"]
    assert not answer.startswith("hi")


async def test_tokenize_agrees(client: httpx.AsyncClient) -> None:
    body = {"messages": [USER, BEGUN], "continue_final_message": True}
    for fields in ({}, {"add_generation_prompt": False}, {"add_special_tokens": False}):
        response = await client.post("/tokenize", json={**body, **fields})
        assert bytes(response.json()["tokens"]).decode() == "user:hi\nThe answer is"
    body["messages"] = [USER]
    response = await client.post("/tokenize", json=body)
    assert response.json()["error"]["param"] == "continue_final_message"
