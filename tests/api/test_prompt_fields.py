"""Fields about the prompt: its log-probabilities, and how much of it is kept."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


async def completed(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    body = {"model": "fake", "prompt": "abcde", "max_tokens": 2, "temperature": 0, **fields}
    response = await client.post(COMPLETIONS, json=body)
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


@pytest.mark.parametrize("num_top", [0, 1, 3])
async def test_log_probabilities_of_a_prompt_are_those_of_echo(
    client: httpx.AsyncClient, num_top: int
) -> None:
    choice = await completed(client, prompt_logprobs=num_top)
    scored = choice["prompt_logprobs"]
    echoed = await completed(client, echo=True, logprobs=num_top)
    assert scored[0] is None
    assert len(scored) == len("abcde")
    for place, char in enumerate("abcde"):
        if place == 0:
            continue
        own = scored[place][str(ord(char))]
        assert own["decoded_token"] == char
        assert own["logprob"] == echoed["logprobs"]["token_logprobs"][place]
        ranks = [entry["rank"] for entry in scored[place].values() if entry["rank"] is not None]
        assert sorted(ranks) == list(range(1, num_top + 1))
    assert (await completed(client))["prompt_logprobs"] is None


async def test_log_probabilities_beside_echo(client: httpx.AsyncClient) -> None:
    choice = await completed(client, echo=True, logprobs=1, prompt_logprobs=3)
    alone = await completed(client, echo=True, logprobs=1)
    assert choice["logprobs"] == alone["logprobs"]
    assert len(choice["prompt_logprobs"][1]) >= 3


async def test_log_probabilities_of_a_conversation(client: httpx.AsyncClient) -> None:
    body = {"model": "fake", "messages": MESSAGES, "max_tokens": 2, "prompt_logprobs": 1, "n": 2}
    answer = (await client.post(CHAT, json=body)).json()
    assert len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]
    assert answer["prompt_logprobs"][0] is None
    assert str(ord("s")) in answer["prompt_logprobs"][1]
    del body["prompt_logprobs"]
    assert (await client.post(CHAT, json=body)).json()["prompt_logprobs"] is None


async def test_tokens_are_named_by_their_ids(client: httpx.AsyncClient) -> None:
    named = {"return_tokens_as_token_ids": True}
    choice = await completed(client, logprobs=1, prompt_logprobs=1, return_token_ids=True, **named)
    ids = choice["token_ids"]
    assert choice["logprobs"]["tokens"] == [f"token_id:{token_id}" for token_id in ids]
    assert choice["prompt_logprobs"][1][str(ord("b"))]["decoded_token"] == f"token_id:{ord('b')}"
    body = {"model": "fake", "messages": MESSAGES, "max_tokens": 2, "logprobs": True, **named}
    answer = (await client.post(CHAT, json={**body, "return_token_ids": True})).json()
    content = answer["choices"][0]["logprobs"]["content"]
    ids = answer["choices"][0]["token_ids"]
    assert [token["token"] for token in content] == [f"token_id:{token_id}" for token_id in ids]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"truncate_prompt_tokens": 2}, "de"),
        ({"truncate_prompt_tokens": 2, "truncation_side": "left"}, "de"),
        ({"truncate_prompt_tokens": 2, "truncation_side": "right"}, "ab"),
        ({"truncate_prompt_tokens": 9}, "abcde"),
        ({"truncate_prompt_tokens": -1}, "abcde"),
    ],
)
async def test_prompts_are_cut(
    client: httpx.AsyncClient, fields: dict[str, Any], kept: str
) -> None:
    choice = await completed(client, **fields, return_token_ids=True)
    assert bytes(choice["prompt_token_ids"]).decode() == kept
    cut = await completed(client, **fields, echo=True)
    whole = await completed(client, prompt=kept, echo=True)
    assert cut["text"] == whole["text"]


async def test_long_prompts_are_cut_to_the_context(client: httpx.AsyncClient) -> None:
    choice = await completed(
        client, prompt="x" * 200 + "end", truncate_prompt_tokens=-1, return_token_ids=True
    )
    assert bytes(choice["prompt_token_ids"]).decode().endswith("xend")
    assert len(choice["prompt_token_ids"]) == 128 - 2
    body = {
        "model": "fake",
        "messages": [{"role": "user", "content": "x" * 200}],
        "max_tokens": 8,
        "truncate_prompt_tokens": -1,
    }
    assert (await client.post(CHAT, json=body)).json()["usage"]["prompt_tokens"] == 120
    body = {"model": "fake", "input": "x" * 200, "truncate_prompt_tokens": 3}
    assert (await client.post("/v1/embeddings", json=body)).json()["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"truncation_side": "middle"}, "truncation_side"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    for path, own in ((COMPLETIONS, {"prompt": "x"}), (CHAT, {"messages": MESSAGES})):
        response = await client.post(path, json={"model": "fake", **own, **fields})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param
