"""The prompts of requests as token ids."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

CHAT = "/v1/chat/completions/render"
COMPLETIONS = "/v1/completions/render"
MESSAGES = [{"role": "user", "content": "hi"}]
LONG = [{"role": "user", "content": "x" * 200}]


async def rendered(client: httpx.AsyncClient, path: str, **fields: Any) -> Any:
    headers = fields.pop("headers", {})
    response = await client.post(path, json={"model": "fake", **fields}, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_chat_has_the_ids_that_are_answered(client: httpx.AsyncClient) -> None:
    prompt = await rendered(client, CHAT, messages=MESSAGES)
    body = {"model": "fake", "messages": MESSAGES, "max_tokens": 1, "return_token_ids": True}
    answer = (await client.post("/v1/chat/completions", json=body)).json()
    assert prompt["token_ids"] == answer["prompt_token_ids"]
    assert prompt["request_id"].startswith("chatcmpl-")
    assert prompt["sampling_params"]["max_tokens"] == 128 - len(prompt["token_ids"])
    assert prompt["sampling_params"]["stop_token_ids"]


async def test_completions_have_an_object_for_each_prompt(client: httpx.AsyncClient) -> None:
    one, two = await rendered(client, COMPLETIONS, prompt=["ab", "c"], request_id="mine")
    assert [one["token_ids"], two["token_ids"]] == [[97, 98], [99]]
    assert [one["request_id"], two["request_id"]] == ["cmpl-mine-0", "cmpl-mine-1"]
    (alone,) = await rendered(client, COMPLETIONS, prompt=[1, 2, 3], max_tokens=7, logprobs=2)
    assert alone["token_ids"] == [1, 2, 3]
    assert alone["request_id"].startswith("cmpl-")
    assert alone["sampling_params"]["max_tokens"] == 7
    assert alone["sampling_params"]["logprobs"] == 2


async def test_the_header_names_the_request(client: httpx.AsyncClient) -> None:
    fields = {"messages": MESSAGES, "request_id": "mine"}
    assert (await rendered(client, CHAT, **fields))["request_id"] == "chatcmpl-mine"
    prompt = await rendered(client, CHAT, **fields, headers={"X-Request-Id": "theirs"})
    assert prompt["request_id"] == "chatcmpl-theirs"
    others = [(await rendered(client, CHAT, messages=MESSAGES))["request_id"] for _ in "12"]
    assert len(set(others)) == 2


async def test_fields_are_given_back(client: httpx.AsyncClient) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    prompt = await rendered(
        client,
        CHAT,
        messages=MESSAGES,
        stream=True,
        stream_options=options,
        temperature=0.5,
        top_p=0.25,
        stop=["x"],
        logit_bias={"5": 1.5},
        cache_salt="salt",
        priority=3,
        return_token_offsets=True,
    )
    params = prompt["sampling_params"]
    assert (params["temperature"], params["top_p"], params["stop"]) == (0.5, 0.25, ["x"])
    assert params["logit_bias"] == {"5": 1.5}
    assert prompt["stream"] is True
    assert prompt["stream_options"] == options
    assert (prompt["cache_salt"], prompt["priority"], prompt["model"]) == ("salt", 3, "fake")
    assert prompt["token_offsets"] is None


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (CHAT, {"model": "other", "messages": MESSAGES}, 404, "model"),
        (COMPLETIONS, {"model": "other", "prompt": "x"}, 404, "model"),
        (CHAT, {"model": "fake"}, 400, "messages"),
        (
            CHAT,
            {"model": "fake", "messages": [{"role": "user", "content": "x" * 200}]},
            400,
            "messages",
        ),
        (COMPLETIONS, {"model": "fake", "prompt": "x" * 200}, 400, "prompt"),
        (
            COMPLETIONS,
            {"model": "fake", "prompt": "x", "use_beam_search": True},
            400,
            "use_beam_search",
        ),
    ],
)
async def test_errors_are_those_of_the_request(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    response = await client.post(path, json=body)
    assert response.status_code == status
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "fields", "question"),
    [
        ("/v1/responses", {"input": "hi", "instructions": "Be brief."}, "max_output_tokens"),
        ("/v1/messages", {"messages": MESSAGES, "system": "Be brief.", "max_tokens": 9}, ""),
    ],
)
async def test_other_apis(
    client: httpx.AsyncClient, path: str, fields: dict[str, Any], question: str
) -> None:
    prompt = await rendered(client, f"{path}/render", **fields)
    messages = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    assert prompt["token_ids"] == (await rendered(client, CHAT, messages=messages))["token_ids"]
    assert prompt["request_id"].startswith("resp_" if question else "msg_")
    long = {**fields, "input": "x" * 200} if question else {**fields, "messages": LONG}
    answer = await client.post(f"{path}/render", json={"model": "fake", **long})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith(
        "This model's maximum context" if question else "prompt is too long"
    )
