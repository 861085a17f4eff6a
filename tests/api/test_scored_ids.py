"""`logprob_token_ids`: log-probabilities of ids that a request names."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
WANTED = {"logprob_token_ids": [100, 9, 100], "return_tokens_as_token_ids": True, "max_tokens": 2}


def body(path: str, **fields: Any) -> dict[str, Any]:
    asks: dict[str, Any] = (
        {"messages": [{"role": "user", "content": "a"}], "logprobs": True}
        if path == CHAT
        else {"prompt": "a", "logprobs": 3}
    )
    return {"model": "fake", "temperature": 0, **asks, **WANTED, **fields}


def scored(path: str, logprobs: dict[str, Any] | None) -> list[tuple[str, dict[str, float]]]:
    """The chosen token of each place, and the log-probabilities that are listed there."""
    if logprobs is None:
        return []
    if path == COMPLETIONS:
        return [*zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True)]
    return [
        (place["token"], {top["token"]: top["logprob"] for top in place["top_logprobs"]})
        for place in logprobs["content"]
    ]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_whole_and_streamed(client: httpx.AsyncClient, path: str) -> None:
    """At each place the chosen token, and the ids that the request names: nothing else."""
    response = await client.post(path, json=body(path))
    assert response.status_code == 200, response.text
    places = scored(path, response.json()["choices"][0]["logprobs"])
    assert len(places) == 2
    for token, listed in places:
        assert set(listed) == {token, "token_id:100", "token_id:9"}
        assert listed["token_id:100"] == -100 / 1024
    stream = await client.post(path, json=body(path, stream=True))
    chunks = [json.loads(line[6:]) for line in stream.text.split("\n") if line[:7] == "data: {"]
    streamed = [scored(path, chunk["choices"][0]["logprobs"]) for chunk in chunks]
    assert [place for places in streamed for place in places] == places


async def test_a_chosen_id_is_listed_once(client: httpx.AsyncClient) -> None:
    fields = {"allowed_token_ids": [9], "max_tokens": 1}
    answer = (await client.post(CHAT, json=body(CHAT, **fields))).json()
    (place,) = answer["choices"][0]["logprobs"]["content"]
    assert [top["token"] for top in place["top_logprobs"]] == ["token_id:9", "token_id:100"]


async def test_an_echoed_prompt_keeps_its_own(client: httpx.AsyncClient) -> None:
    """The prompt's tokens are listed with the most likely ones."""
    answer = (
        await client.post(COMPLETIONS, json=body(COMPLETIONS, echo=True, prompt="abc"))
    ).json()
    places = scored(COMPLETIONS, answer["choices"][0]["logprobs"])
    assert places[0][1] is None
    assert "token_id:9" not in places[1][1]
    assert "token_id:9" in places[-1][1]


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        (CHAT, {"logprobs": False}, "goes with logprobs: true"),
        (COMPLETIONS, {"logprobs": None}, "goes with logprobs"),
        (COMPLETIONS, {"echo": True, "max_tokens": 0}, "makes no tokens"),
        (CHAT, {"logprob_token_ids": [*range(129)]}, "at most 128"),
        (CHAT, {"logprob_token_ids": [10**6]}, "out of vocabulary"),
        (CHAT, {"logprob_token_ids": [-1]}, "greater than or equal to 0"),
        (COMPLETIONS, {"logprob_token_ids": "9"}, "list"),
    ],
)
async def test_refusals_name_the_field(
    client: httpx.AsyncClient, path: str, fields: dict[str, Any], words: str
) -> None:
    response = await client.post(path, json=body(path, **fields))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"].startswith("logprob_token_ids")
    assert words in error["message"]


async def test_no_ids_ask_for_nothing(client: httpx.AsyncClient) -> None:
    fields = {"logprob_token_ids": [], "top_logprobs": 2}
    answer = (await client.post(CHAT, json=body(CHAT, **fields))).json()
    assert all(
        len(place["top_logprobs"]) == 2 for place in answer["choices"][0]["logprobs"]["content"]
    )


async def test_a_response(client: httpx.AsyncClient) -> None:
    fields = {"input": "a", "max_output_tokens": 1, "logprob_token_ids": [100]}
    refused = await client.post("/v1/responses", json=fields)
    assert refused.json()["error"]["message"].startswith("logprob_token_ids: goes with include")
    asks = {**fields, "include": ["message.output_text.logprobs"]}
    answer = (await client.post("/v1/responses", json=asks)).json()
    (place,) = answer["output"][0]["content"][0]["logprobs"]
    assert [top["token"] for top in place["top_logprobs"]] == [place["token"], "d"]
