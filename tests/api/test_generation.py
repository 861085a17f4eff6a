"""Answers of the two generating endpoints, streamed and whole."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from support.fakes import expected_output

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def chat(**fields: Any) -> dict[str, Any]:
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
    return {**body, "temperature": 0, "max_tokens": 12, **fields}


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": "fake", "prompt": "hi", "temperature": 0, "max_tokens": 12, **fields}


def expected_text(prompt: str, num_tokens: int = 12) -> str:
    return bytes(expected_output(list(prompt.encode()), num_tokens)).decode()


def events(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [b for b in response.text.split("\n\n") if b]
    assert blocks[-1] == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]


async def test_chat(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=chat())
    body = response.json()
    assert response.status_code == 200
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "fake"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": expected_text("user:hi\n"),
                "refusal": None,
            },
            "logprobs": None,
            "finish_reason": "length",
            "token_ids": None,
        }
    ]
    assert (body["prompt_token_ids"], body["prompt_logprobs"]) == (None, None)
    assert body["usage"] == {
        "prompt_tokens": 8,
        "completion_tokens": 12,
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


async def test_chat_stream(client: httpx.AsyncClient) -> None:
    chunks = events(await client.post(CHAT, json=chat(stream=True)))
    assert len({(c["id"], c["created"], c["model"]) for c in chunks}) == 1
    first = {"role": "assistant", "content": "", "refusal": None}
    assert chunks[0]["choices"][0]["delta"] == first
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert text == expected_text("user:hi\n")
    reasons = [c["choices"][0]["finish_reason"] for c in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]
    assert all("usage" not in c for c in chunks)


@pytest.mark.parametrize(("path", "body"), [(CHAT, chat()), (COMPLETIONS, completion())])
async def test_usage_comes_last_when_asked_for(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = events(await client.post(path, json=body))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 12
    assert all(chunk["usage"] is None for chunk in chunks)


async def test_completion_of_text_and_of_ids(client: httpx.AsyncClient) -> None:
    by_text = (await client.post(COMPLETIONS, json=completion())).json()
    by_ids = (await client.post(COMPLETIONS, json=completion(prompt=[104, 105]))).json()
    assert by_text["choices"][0]["text"] == expected_text("hi")
    assert by_text["choices"] == by_ids["choices"]
    assert by_text["object"] == "text_completion"


async def test_completion_stream_carries_ids_when_asked(client: httpx.AsyncClient) -> None:
    body = completion(stream=True, return_token_ids=True)
    chunks = events(await client.post(COMPLETIONS, json=body))
    ids = [i for c in chunks for i in c["choices"][0]["token_ids"]]
    assert ids == expected_output([104, 105], 12)


async def test_completions_make_16_tokens_by_default(client: httpx.AsyncClient) -> None:
    response = await client.post(COMPLETIONS, json={"model": "fake", "prompt": "hi"})
    assert response.json()["usage"]["completion_tokens"] == 16


async def test_without_max_tokens_a_long_prompt_gets_what_room_there_is(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post(COMPLETIONS, json={"model": "fake", "prompt": [1] * 120})
    assert response.json()["usage"]["completion_tokens"] == 8


async def test_chat_uses_the_whole_context_by_default(client: httpx.AsyncClient) -> None:
    body = chat()
    del body["max_tokens"]
    response = await client.post(CHAT, json=body)
    assert response.json()["usage"]["total_tokens"] == 128


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_ends_the_text_before_it(
    client: httpx.AsyncClient, stream: bool
) -> None:
    text = expected_text("user:hi\n")
    body = chat(stop=[text[4:7], "never"], stream=stream)
    response = await client.post(CHAT, json=body)
    if stream:
        chunks = events(response)
        got = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
        reason = chunks[-1]["choices"][0]["finish_reason"]
    else:
        choice = response.json()["choices"][0]
        got, reason = choice["message"]["content"], choice["finish_reason"]
    assert got == text[: text.index(text[4:7])]
    assert reason == "stop"
    metrics = (await client.get("/metrics")).text
    assert 'glmserve_kv_blocks_used{model_name="fake"} 0.0' in metrics


async def test_text_held_back_for_a_stop_string_is_not_lost(client: httpx.AsyncClient) -> None:
    text = expected_text("hi")
    body = completion(stop=text[-2:] + "\0")
    choice = (await client.post(COMPLETIONS, json=body)).json()["choices"][0]
    assert choice["text"] == text
    assert choice["finish_reason"] == "length"


async def test_stop_token_ids_end_the_text_unspoken(client: httpx.AsyncClient) -> None:
    tokens = expected_output([104, 105], 12)
    body = completion(stop_token_ids=[tokens[5]], return_token_ids=True)
    choice = (await client.post(COMPLETIONS, json=body)).json()["choices"][0]
    end = tokens.index(tokens[5])
    assert choice["token_ids"] == tokens[: end + 1]
    assert choice["text"] == bytes(tokens[:end]).decode()
    assert choice["finish_reason"] == "stop"


async def test_content_parts_and_the_developer_role(client: httpx.AsyncClient) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]},
    ]
    response = await client.post(CHAT, json=chat(messages=messages))
    content = response.json()["choices"][0]["message"]["content"]
    assert content == expected_text("system:be brief\nuser:hi\n")


async def test_without_a_tokenizer_ids_are_the_answer(make_client: Any) -> None:
    client = await make_client(with_tokenizer=False)
    choice = (await client.post(COMPLETIONS, json=completion(prompt=[1, 2]))).json()["choices"][0]
    assert choice["text"] == ""
    assert choice["token_ids"] == expected_output([1, 2], 12)
    assert choice["prompt_token_ids"] == [1, 2]
    for path, body in ((CHAT, chat()), (COMPLETIONS, completion())):
        response = await client.post(path, json=body)
        assert response.status_code == 400
        assert "no tokenizer" in response.json()["error"]["message"]


async def test_the_prefix_cache_shows_in_usage(client: httpx.AsyncClient) -> None:
    body = completion(prompt=list(range(40, 60)), max_tokens=1)
    await client.post(COMPLETIONS, json=body)
    usage = (await client.post(COMPLETIONS, json=body)).json()["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 16}
