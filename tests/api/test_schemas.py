"""Every object that is answered is one of OpenAI's published ones, no field more and none less.

A whole answer also has three fields of vLLM's, null unless they are asked for.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from glmserve.contract.step import RunnerLimits
from support import openai_schemas
from support.fakes import LIMITS, FakeRunner
from support.slow import slow

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"word": {"enum": ["a", "b"]}},
            "required": ["word"],
        },
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "bit", "strict": True, "schema": {"type": "boolean"}},
}
ROOMY = RunnerLimits(
    num_blocks=512,
    block_size=4,
    max_sequences=16,
    max_step_tokens=64,
    max_context=LIMITS.max_context * 8,
)

LOGPROBS: list[dict[str, Any]] = [{}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 2}]
SHAPES: dict[str, dict[str, Any]] = {
    "text": {},
    "stopped": {"stop": [chr(i) for i in range(97, 110)]},
    "tools": {"tools": [TOOL]},
    "call": {"tools": [TOOL], "tool_choice": "required"},
    "named call": {
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
    },
    "one call": {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {"response_format": SCHEMA},
    "guided_choice": {"guided_choice": ["yes", "no"]},
}


@pytest.fixture
async def roomy(make_client: Any) -> httpx.AsyncClient:
    """A server whose context has room for tools."""
    return await make_client(runner=FakeRunner(ROOMY))  # type: ignore[no-any-return]


async def events(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> list[dict[str, Any]]:
    response = await client.post(path, json={**body, "stream": True})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    *blocks, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def joined(chunks: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """What the deltas of one choice say together."""
    content: str | None = None
    calls: list[dict[str, Any]] = []
    for choice in (c for chunk in chunks for c in chunk["choices"] if c["index"] == index):
        delta = choice["delta"]
        if delta.get("content") is not None:
            content = (content or "") + delta["content"]
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(calls):
                assert call.keys() == {"index", "id", "type", "function"}
                calls.append({"name": call["function"]["name"], "arguments": ""})
            calls[call["index"]]["arguments"] += call["function"]["arguments"]
    return {"content": content, "calls": calls}


@pytest.mark.parametrize("n", [slow(1), 2])
@pytest.mark.parametrize("logprobs", LOGPROBS, ids=len)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_chat(
    roomy: httpx.AsyncClient, shape: dict[str, Any], logprobs: dict[str, Any], n: int
) -> None:
    body = {"model": "fake", "messages": MESSAGES, "temperature": 0, "max_tokens": 150, "n": n}
    body |= shape | logprobs
    response = await roomy.post(CHAT, json=body)
    assert response.status_code == 200, response.text
    whole = openai_schemas.checked_chat(response.json())
    assert whole.usage is not None
    chunks = await events(roomy, CHAT, body)
    for chunk in chunks:
        openai_schemas.checked_chunk(chunk)
        assert "usage" not in chunk
    assert [choice.index for choice in whole.choices] == list(range(n))
    for choice in whole.choices:
        assert (choice.logprobs is not None) == bool(logprobs)
        message = choice.message
        calls = [call.function.model_dump() for call in message.tool_calls or ()]
        said = joined(chunks, choice.index)
        assert said["calls"] == calls
        assert said["content"] == message.content
        assert (choice.finish_reason == "tool_calls") == bool(calls)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_usage_is_null_until_the_last_chunk(
    roomy: httpx.AsyncClient, shape: dict[str, Any]
) -> None:
    body = {"model": "fake", "messages": MESSAGES, "temperature": 0, "max_tokens": 150, **shape}
    whole = (await roomy.post(CHAT, json=body)).json()
    *chunks, last = await events(roomy, CHAT, body | {"stream_options": {"include_usage": True}})
    assert all(chunk["usage"] is None for chunk in chunks)
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    assert last["choices"] == []
    usage = openai_schemas.checked_chunk(last).usage
    assert usage is not None
    assert usage.completion_tokens == whole["usage"]["completion_tokens"]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("logprobs", [None, 0, 2])
@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize(
    "fields",
    [{}, {"prompt": ["hé", "b"]}, {"prompt": [104, 105]}, {"guided_choice": ["yes", "no"]}],
    ids=["text", "texts", "ids", "choice"],
)
async def test_completions(
    client: httpx.AsyncClient, n: int, logprobs: int | None, echo: bool, fields: dict[str, Any]
) -> None:
    body = {"model": "fake", "prompt": "hi", "temperature": 0, "max_tokens": 6}
    body |= {"n": n, "logprobs": logprobs, "echo": echo} | fields
    response = await client.post(COMPLETIONS, json=body)
    assert response.status_code == 200, response.text
    whole = openai_schemas.checked_completion(response.json())
    *chunks, last = [
        openai_schemas.checked_completion_chunk(chunk)
        for chunk in await events(
            client, COMPLETIONS, body | {"stream_options": {"include_usage": True}}
        )
    ]
    assert last.choices == []
    assert last.usage is not None
    for choice in whole.choices:
        pieces = [c.text for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert "".join(pieces) == choice.text
        assert (choice.logprobs is not None) == (logprobs is not None)


async def test_service_tier_is_answered_to_those_who_name_one(client: httpx.AsyncClient) -> None:
    body = {"model": "fake", "messages": MESSAGES, "max_tokens": 3, "service_tier": "auto"}
    whole = openai_schemas.checked_chat((await client.post(CHAT, json=body)).json())
    assert whole.service_tier == "default"
    for chunk in await events(client, CHAT, body):
        assert openai_schemas.checked_chunk(chunk).service_tier == "default"


async def test_extensions_come_only_to_those_who_ask(client: httpx.AsyncClient) -> None:
    ids = frozenset({"prompt_token_ids", "token_ids"})
    chat = {"model": "fake", "messages": MESSAGES, "max_tokens": 3, "return_token_ids": True}
    whole = (await client.post(CHAT, json=chat)).json()
    openai_schemas.checked_chat(whole, ids)
    assert len(whole["choices"][0]["token_ids"]) == 3
    for chunk in await events(client, CHAT, chat):
        openai_schemas.checked_chunk(chunk, ids)
    text = {"model": "fake", "prompt": "hi", "max_tokens": 3, "return_token_ids": True}
    whole = (await client.post(COMPLETIONS, json=text)).json()
    openai_schemas.checked_completion(whole, ids)
    for chunk in await events(client, COMPLETIONS, text):
        openai_schemas.checked_completion_chunk(chunk, ids)


@pytest.mark.parametrize("value", ["hi", ["a", "b"], [104, 105], [[1], [2, 3]]])
async def test_embeddings(client: httpx.AsyncClient, value: Any) -> None:
    response = await client.post("/v1/embeddings", json={"model": "fake", "input": value})
    assert response.status_code == 200, response.text
    assert openai_schemas.checked_embeddings(response.json()).data


async def test_models(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert listed.keys() == {"object", "data"}
    assert listed["object"] == "list"
    for model in listed["data"]:
        openai_schemas.checked_model(model)
        openai_schemas.checked_model((await client.get(f"/v1/models/{model['id']}")).json())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", CHAT, {"model": "fake", "messages": []}, 400),
        ("POST", CHAT, {"model": "gpt", "messages": MESSAGES}, 404),
        ("POST", COMPLETIONS, {"model": "fake"}, 400),
        ("POST", COMPLETIONS, {"model": "fake", "prompt": "x" * 500}, 400),
        ("POST", "/v1/embeddings", {"model": "fake", "input": []}, 400),
        ("GET", "/v1/models/gpt", None, 404),
        ("GET", "/v1/nothing", None, 404),
        ("GET", CHAT, None, 405),
    ],
)
async def test_errors(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    response = await client.request(method, path, json=body)
    assert response.status_code == status
    openai_schemas.checked_error(response.json())


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("n", [1, 3])
async def test_an_error_in_a_stream(make_client: Any, path: str, n: int) -> None:
    """Its event ends the stream; nothing says that it is complete."""
    runner = FakeRunner()
    client = await make_client(runner=runner)
    runner.fail_at_step = len(runner.steps) + 5
    what = {"messages": MESSAGES} if path == CHAT else {"prompt": "hi"}
    body = {"model": "fake", "max_tokens": 50, "stream": True, "n": n, **what}
    response = await client.post(path, json=body)
    *chunks, last, rest = response.text.split("\n\n")
    assert rest == ""
    assert len(chunks) > 1
    error = openai_schemas.checked_error(json.loads(last.removeprefix("data: ")))
    assert error.type == "server_error"
