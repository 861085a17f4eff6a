"""Thoughts of a model that reasons, in every API, and the fields that switch and place them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from support.fake_server import client_of, serve
from support.speaker import Speaker
from support.thinking import ThinkingChat

CHAT = "/v1/chat/completions"
ANSWER = "\nWhat is 2 + 2?\n</think>\n\nIt is 4."
THOUGHTS, TEXT = "What is 2 + 2?", "It is 4."
MESSAGES = [{"role": "user", "content": "hi"}]
TIME = {"type": "function", "function": {"name": "get_time"}}
CALL = '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'


Make = Callable[[str], Any]


@pytest.fixture
async def thinker() -> AsyncIterator[Make]:
    """Call it with what the model says for a client."""
    async with AsyncExitStack() as stack:

        async def make(text: str) -> httpx.AsyncClient:
            app = await stack.enter_async_context(serve(Speaker(text), chat=ThinkingChat))
            return await stack.enter_async_context(client_of(app))

        yield make


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": MESSAGES, "temperature": 0, "max_tokens": 200, **fields}


async def post(client: httpx.AsyncClient, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    response = await client.post(path, json=body(**fields))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def message(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """The message of a whole answer, after the streamed one was found to be the same."""
    whole: dict[str, Any] = (await post(client, **fields))["choices"][0]["message"]
    streamed = (await client.post(CHAT, json=body(stream=True, **fields))).text
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    for name in ("content", "reasoning_content"):
        joined = "".join(delta.get(name) or "" for delta in deltas)
        assert joined == (whole.get(name) or "")
    return whole


async def test_thoughts_have_a_field_of_their_own(thinker: Make) -> None:
    client = await thinker(ANSWER)
    found = await message(client)
    assert (found["reasoning_content"], found["content"]) == (THOUGHTS, TEXT)
    usage = (await post(client))["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == ANSWER.index("\n\nIt")


OFF = [
    {"enable_thinking": False},
    {"thinking": {"type": "disabled"}},
    {"thinking": False},
    {"thinking_mode": "disabled"},
    {"think": False},
    {"reasoning_effort": "none"},
    {"reasoning": {"enabled": False}},
    {"reasoning": {"effort": "none"}},
    {"thinking_budget": 0},
    {"reasoning_budget": 0},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": {"thinking": False}},
    {"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": True}},
]


@pytest.mark.parametrize("fields", OFF)
async def test_switched_off(thinker: Make, fields: dict[str, Any]) -> None:
    found = await message(await thinker(TEXT), **fields)
    assert (found["reasoning_content"], found["content"]) == (None, TEXT)


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_thinking": True},
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "enabled", "clear_thinking": True}},
        {"reasoning_effort": "low", "thinking_budget": -1},
        {"stream_reasoning": False, "include_reasoning": True, "separate_reasoning": True},
    ],
)
async def test_switched_on(thinker: Make, fields: dict[str, Any]) -> None:
    assert (await message(await thinker(ANSWER), **fields))["reasoning_content"] == THOUGHTS


@pytest.mark.parametrize(
    "fields",
    [
        {"include_reasoning": False},
        {"reasoning_format": "hidden"},
        {"reasoning": {"exclude": True}},
    ],
)
async def test_left_out(thinker: Make, fields: dict[str, Any]) -> None:
    found = await message(await thinker(ANSWER), **fields)
    assert (found["reasoning_content"], found["content"]) == (None, TEXT)


@pytest.mark.parametrize(
    "fields",
    [
        {"separate_reasoning": False},
        {"reasoning_split": False},
        {"reasoning_in_content": True},
        {"reasoning_format": "none"},
    ],
)
async def test_in_the_content(thinker: Make, fields: dict[str, Any]) -> None:
    found = await message(await thinker(ANSWER), **fields)
    assert found["content"] == f"<think>\n{THOUGHTS}\n</think>\n\n{TEXT}"
    cut = await message(await thinker("so"), **fields)
    assert cut["content"] == "<think>\nso\n</think>\n\n"


async def test_a_budget_closes_thoughts(thinker: Make) -> None:
    client = await thinker("a" * 300)
    found = await message(client, thinking_budget=5, max_tokens=40)
    assert found["reasoning_content"] == "aaaaa"
    assert set(found["content"]) == {"a"}
    long = await message(client, thinking_token_budget=500, max_tokens=20)
    assert (long["reasoning_content"], long["content"]) == ("a" * 20, "")


SCHEMA = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}


@pytest.mark.parametrize("opening", ["\n</think>\n\n", "</think>", "{}</think>"])
async def test_a_structure_follows_the_thoughts(thinker: Make, opening: str) -> None:
    spec = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    client = await thinker("Hm." + opening + '{"a": 1}')
    found = await message(client, response_format=spec)
    assert found["reasoning_content"].startswith("Hm.")
    assert json.loads(found["content"]) == {"a": 1}
    off = await message(await thinker('{"a": 1}'), response_format=spec, enable_thinking=False)
    assert json.loads(off["content"]) == {"a": 1}


async def test_space_of_a_structure_is_kept(thinker: Make) -> None:
    fields = {"structured_outputs": {"regex": "\\n[ab]"}}
    assert (await message(await thinker("x</think>\na"), **fields))["content"] == "\na"


async def test_calls_follow_the_thoughts(thinker: Make) -> None:
    client = await thinker(f"A call.\n</think>\n{CALL}")
    for choice in ("auto", "required"):
        found = await message(client, tools=[TIME], tool_choice=choice)
        assert found["reasoning_content"] == "A call."
        assert [call["function"]["name"] for call in found["tool_calls"]] == ["get_time"]


async def test_messages(thinker: Make) -> None:
    client = await thinker(ANSWER)
    found = await post(client, "/v1/messages")
    assert found["content"] == [
        {"type": "thinking", "thinking": THOUGHTS, "signature": ""},
        {"type": "text", "text": TEXT},
    ]
    streamed = (await client.post("/v1/messages", json=body(stream=True))).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: ")]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == THOUGHTS
    assert "".join(delta.get("text", "") for delta in deltas) == TEXT
    off = await post(await thinker(TEXT), "/v1/messages", thinking={"type": "disabled"})
    assert off["content"] == [{"type": "text", "text": TEXT}]


async def test_responses(thinker: Make) -> None:
    client = await thinker(ANSWER)
    request = {"model": "fake", "input": "hi", "temperature": 0}
    found = (await client.post("/v1/responses", json=request)).json()
    thoughts, text = found["output"]
    assert (thoughts["type"], thoughts["summary"], thoughts["status"]) == (
        "reasoning",
        [],
        "completed",
    )
    assert thoughts["content"] == [{"type": "reasoning_text", "text": THOUGHTS}]
    assert text["content"][0]["text"] == TEXT
    assert found["usage"]["output_tokens_details"]["reasoning_tokens"] == ANSWER.index("\n\nIt")
    streamed = (await client.post("/v1/responses", json={**request, "stream": True})).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: ")]
    deltas = [e["delta"] for e in events if e["type"] == "response.reasoning_text.delta"]
    assert "".join(deltas) == THOUGHTS
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    further = {**request, "previous_response_id": found["id"]}
    assert (await client.post("/v1/responses", json=further)).status_code == 200
    off = {**request, "reasoning": {"effort": "none"}}
    found = (await (await thinker(TEXT)).post("/v1/responses", json=off)).json()
    assert [item["type"] for item in found["output"]] == ["message"]


async def test_a_continued_message_has_no_thoughts(thinker: Make) -> None:
    begun = [*MESSAGES, {"role": "assistant", "content": "It"}]
    found = await message(await thinker(" is 4."), messages=begun)
    assert found["content"] == " is 4."


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"enable_thinking": 1}, "enable_thinking"),
        ({"thinking_budget": "9"}, "thinking_budget"),
        ({"reasoning": True}, "reasoning"),
    ],
)
async def test_wrong_types(thinker: Make, fields: dict[str, Any], param: str) -> None:
    response = await (await thinker(TEXT)).post(CHAT, json=body(**fields))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
