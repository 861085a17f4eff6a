"""Text to tokens and back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmserve.api.answering.threads import run_in_thread_if_large

MESSAGES = [{"role": "user", "content": "hi"}]


async def test_tokenize_a_prompt(client: httpx.AsyncClient) -> None:
    response = await client.post("/tokenize", json={"model": "fake", "prompt": "hé"})
    assert response.json() == {
        "count": 3,
        "max_model_len": 128,
        "tokens": [104, 195, 169],
        "token_strs": None,
    }


async def test_token_strs(client: httpx.AsyncClient) -> None:
    body = {"prompt": "hé", "return_token_strs": True, "add_special_tokens": False}
    strings = (await client.post("/tokenize", json=body)).json()["token_strs"]
    assert strings == ["h", "Ã", "©"]  # the alphabet of byte-level tokenizers


async def test_tokenize_messages(client: httpx.AsyncClient) -> None:
    for generation_prompt in ({}, {"add_generation_prompt": True}):
        body = {"messages": MESSAGES, **generation_prompt}
        tokens = (await client.post("/tokenize", json=body)).json()["tokens"]
        assert bytes(tokens) == b"user:hi\n"


async def test_tokenize_messages_without_an_answer(client: httpx.AsyncClient) -> None:
    body = {"messages": MESSAGES, "add_generation_prompt": False}
    tokens = (await client.post("/tokenize", json=body)).json()["tokens"]
    assert bytes(tokens) == b"user:hi"
    path = "/v1/chat/completions/render"
    rendered = (await client.post(path, json={"model": "fake", **body})).json()
    assert rendered["token_ids"] == tokens


async def test_detokenize_names_special_tokens(client: httpx.AsyncClient) -> None:
    response = await client.post("/detokenize", json={"tokens": [104, 105, 256]})
    assert response.json() == {"prompt": "hi<eos>"}
    assert (await client.post("/detokenize", json={"tokens": []})).json() == {"prompt": ""}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(text=st.text() | st.text(min_size=5000, max_size=6000))
async def test_detokenize_undoes_tokenize(client: httpx.AsyncClient, text: str) -> None:
    tokens = (await client.post("/tokenize", json={"prompt": text})).json()["tokens"]
    response = await client.post("/detokenize", json={"tokens": tokens})
    assert response.json() == {"prompt": text}


@pytest.mark.parametrize(
    ("path", "body", "param", "said"),
    [
        ("/tokenize", {}, "prompt", "prompt or messages is required"),
        ("/tokenize", {"prompt": 7}, "prompt", "string"),
        ("/tokenize", {"prompt": "x", "messages": MESSAGES}, "messages", "not both"),
        ("/tokenize", {"messages": []}, "messages", "at least 1"),
        (
            "/tokenize",
            {"prompt": "x", "add_generation_prompt": True},
            "add_generation_prompt",
            "goes with messages",
        ),
        (
            "/tokenize",
            {
                "messages": [*MESSAGES, {"role": "assistant", "content": "x"}],
                "add_generation_prompt": True,
                "continue_final_message": True,
            },
            "add_generation_prompt",
            "send one of",
        ),
        ("/tokenize", {"prompt": "x", "colour": 1}, "colour", "not supported"),
        ("/detokenize", {}, "tokens", "required"),
        ("/detokenize", {"tokens": [257]}, "tokens", "vocabulary of 257"),
        ("/detokenize", {"tokens": [1, -1]}, "tokens.1", "greater than or equal to 0"),
        ("/detokenize", {"tokens": "hi"}, "tokens", "list"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], param: str, said: str
) -> None:
    response = await client.post(path, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert said in error["message"]


async def test_another_model(client: httpx.AsyncClient) -> None:
    for path, field in (("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [1]})):
        response = await client.post(path, json={"model": "gpt-5", **field})
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"


async def test_without_a_tokenizer(make_client: Any) -> None:
    client = await make_client(with_tokenizer=False)
    for path, field in (
        ("/tokenize", {"prompt": "x"}),
        ("/tokenize", {"messages": MESSAGES}),
        ("/detokenize", {"tokens": [1]}),
    ):
        response = await client.post(path, json=field)
        assert response.status_code == 400
        assert "--skip-tokenizer-init" in response.json()["error"]["message"]


@pytest.mark.parametrize("size", [1, 100_000])
async def test_offloaded_work_gives_and_raises_what_it_would_have(size: int) -> None:
    assert await run_in_thread_if_large(lambda: size + 1, size) == size + 1
    with pytest.raises(ZeroDivisionError):
        await run_in_thread_if_large(lambda: 1 // 0, size)


async def test_offered_tools_are_part_of_a_conversation(client: httpx.AsyncClient) -> None:
    function = {"name": "get_weather", "description": "Tells the weather."}
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": function}],
    }
    prompt = bytes((await client.post("/tokenize", json=body)).json()["tokens"]).decode()
    assert "get_weather" in prompt
    assert "Tells the weather." in prompt
    refused = await client.post("/tokenize", json={"prompt": "hi", "tools": []})
    assert refused.json()["error"]["param"] == "tools"
