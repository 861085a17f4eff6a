"""/v1/chat/completions/batch: one choice for each of several conversations."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

BATCH = "/v1/chat/completions/batch"
CHAT = "/v1/chat/completions"


def said(*texts: str, role: str = "user") -> list[list[dict[str, str]]]:
    return [[{"role": role, "content": text}] for text in texts]


async def answered(client: httpx.AsyncClient, path: str, **fields: Any) -> Any:
    body = {"model": "fake", "temperature": 0, "max_tokens": 5, **fields}
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"logprobs": True, "top_logprobs": 2, "return_token_ids": True},
        {"logprobs": True, "logprob_token_ids": [9], "return_tokens_as_token_ids": True},
        {"guided_choice": ["yes", "no"]},
        {"tools": [], "tool_choice": "none"},
    ],
)
async def test_each_conversation_is_answered_as_alone(
    client: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    conversations = said("a", "bb", "ccc")
    batch = await answered(client, BATCH, messages=conversations, **fields)
    alone = [await answered(client, CHAT, messages=one, **fields) for one in conversations]
    assert batch["object"] == "chat.completion"
    assert batch["choices"] == [
        {**one["choices"][0], "index": index} for index, one in enumerate(alone)
    ]
    for count in ("prompt_tokens", "completion_tokens"):
        assert batch["usage"][count] == sum(one["usage"][count] for one in alone)
    assert batch["prompt_token_ids"] is None


async def test_messages_that_are_continued(client: httpx.AsyncClient) -> None:
    conversations = said("x", "yy", role="assistant")
    batch = await answered(client, BATCH, messages=conversations, echo=True)
    alone = [await answered(client, CHAT, messages=one, echo=True) for one in conversations]
    texts = [one["choices"][0]["message"]["content"] for one in alone]
    assert [choice["message"]["content"] for choice in batch["choices"]] == texts
    assert texts[0].startswith("x")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": True}, "stream"),
        ({"n": 2}, "n"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": []}, "messages"),
        ({"messages": [[]]}, "messages.0"),
        ({"messages": said("a")[0]}, "messages.0"),
        ({"messages": said("a") * 129}, "messages"),
        ({"messages": [*said("a"), *said("b", role="assistant")]}, "messages"),
        ({"messages": [*said("a"), [{"role": "user", "content": "a", "x": 1}]]}, "messages.1.0.x"),
        ({"messages": said("a", "b" * 5000)}, "messages"),
        ({"model": "other"}, "model"),
    ],
)
async def test_refusals_name_the_field(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    body = {"model": "fake", "messages": said("a"), **fields}
    response = await client.post(BATCH, json=body)
    assert response.status_code in (400, 404), response.text
    assert response.json()["error"]["param"] == param
