"""The token that ends a text is scored with it, as harnesses rely on: one score per token."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest

from glmserve.contract.step import MaskSource, StepInput, StepOutput, no_masks
from support.fakes import FakeRunner, expected_logprobs

END = 256
COMPLETIONS = "/v1/completions"


class Ending(FakeRunner):
    """Says "a", and then the end."""

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        output = super().execute(step, masks)
        sampled = [s for s in step.sequences if s.sampling]
        ids = [END if s.token_ids[-1] == ord("a") else ord("a") for s in sampled]
        logprobs = [expected_logprobs(i, 1) if output.logprobs else None for i in ids]
        return msgspec.structs.replace(
            output, token_ids=ids, logprobs=logprobs if output.logprobs else []
        )


@pytest.fixture
async def ending(make_client: Any) -> httpx.AsyncClient:
    return await make_client(runner=Ending())  # type: ignore[no-any-return]


async def both(client: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The choice of a whole response, and the same choice put together from a stream."""
    body = {"model": "fake", "logprobs": 1, **body}
    whole = (await client.post(COMPLETIONS, json=body)).json()["choices"][0]
    text = (await client.post(COMPLETIONS, json=body | {"stream": True})).text
    events = [e.removeprefix("data: ") for e in text.split("\n\n") if e.startswith("data: {")]
    choices = [json.loads(event)["choices"][0] for event in events]
    keys = whole["logprobs"].keys()
    logprobs = {
        key: [item for c in choices if c["logprobs"] for item in c["logprobs"][key]] for key in keys
    }
    joined = choices[-1] | {"text": "".join(c["text"] for c in choices), "logprobs": logprobs}
    return [whole, joined]


async def test_an_end_after_an_echo(ending: httpx.AsyncClient) -> None:
    """The harness asks for one token and takes the last score for that token's."""
    for choice in await both(ending, {"prompt": "xa", "echo": True, "max_tokens": 1}):
        assert choice["text"] == "xa"
        assert choice["finish_reason"] == "stop"
        assert choice["logprobs"]["tokens"] == ["x", "a", "<eos>"]
        assert choice["logprobs"]["text_offset"] == [0, 1, 2]


async def test_an_end_after_text(ending: httpx.AsyncClient) -> None:
    for choice in await both(ending, {"prompt": "x", "max_tokens": 5}):
        assert choice["text"] == "a"
        assert choice["logprobs"]["tokens"] == ["a", "<eos>"]
        assert choice["logprobs"]["token_logprobs"][1] == expected_logprobs(END, 1).logprob


@pytest.mark.parametrize("stop", ["a", "ab"])
async def test_a_stop_string_is_not_scored(ending: httpx.AsyncClient, stop: str) -> None:
    for choice in await both(ending, {"prompt": "x", "max_tokens": 5, "stop": stop}):
        expected = [] if stop == "a" else ["a", "<eos>"]
        assert choice["logprobs"]["tokens"] == expected


async def test_of_a_chat_only_the_content_is_scored(ending: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": "x"}]
    body = {"model": "fake", "messages": messages, "logprobs": True}
    choice = (await ending.post("/v1/chat/completions", json=body)).json()["choices"][0]
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["a"]
