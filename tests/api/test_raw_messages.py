"""`enable_response_messages`: prompt and answer of a response as text and as token ids."""

from __future__ import annotations

import json

import httpx
import pytest

RESPONSES = "/v1/responses"
BODY = {"input": "hi", "temperature": 0, "max_output_tokens": 6}


@pytest.mark.parametrize("stream", [False, True])
async def test_prompt_and_answer(client: httpx.AsyncClient, *, stream: bool) -> None:
    asks = {**BODY, "enable_response_messages": True, "stream": stream}
    answer = await client.post(RESPONSES, json=asks)
    if stream:
        last = [line for line in answer.text.split("\n") if line.startswith("data: ")][-1]
        response = json.loads(last[6:])["response"]
    else:
        response = answer.json()
    (prompt,), (text,) = response["input_messages"], response["output_messages"]
    assert prompt["type"] == text["type"] == "raw_message_tokens"
    assert prompt["message"] == "user:hi\n" == bytes(prompt["tokens"]).decode()
    assert text["message"].startswith(response["output"][0]["content"][0]["text"])
    assert len(text["tokens"]) == response["usage"]["output_tokens"] == 6
    stored = (await client.get(f"{RESPONSES}/{response['id']}")).json()
    assert stored["output_messages"] == response["output_messages"]


async def test_only_on_request(client: httpx.AsyncClient) -> None:
    response = (await client.post(RESPONSES, json=BODY)).json()
    assert "input_messages" not in response
    assert "output_messages" not in response
