"""What a client asks for too much of is refused by name, with the bound, before any work."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from glmserve.api.protocol import CompletionRequest, parse_request
from glmserve.api.protocol.invalid_json import invalid_value_path
from glmserve.errors import InvalidRequestError
from support.fakes import LIMITS, FakeRunner

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
EMBEDDINGS = "/v1/embeddings"
TOKENIZE = "/tokenize"

USER = {"role": "user", "content": "hi"}
TEXT = {"type": "text", "text": ""}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f"}}
FLAT_TOOL = {"type": "function", "name": "f"}
ITEM = {"role": "user", "content": "hi"}
INPUT = {"type": "input_text", "text": ""}


def allowed(tool: dict[str, Any]) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool] * 513}}


def biases(count: int) -> dict[str, Any]:
    return {str(i): "none of these is a number" for i in range(count)}


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    # path, fields, the field that is named, the bound that is named
    (COMPLETIONS, {"n": 129}, "n", "128"),
    (COMPLETIONS, {"best_of": 129}, "best_of", "128"),
    (COMPLETIONS, {"prompt": ["a"] * 2049}, "prompt", "2048"),
    (COMPLETIONS, {"prompt": ["a"] * 100, "n": 100}, "n", "2048"),
    (COMPLETIONS, {"prompt": ["a"] * 100, "best_of": 100}, "n", "2048"),
    (COMPLETIONS, {"prompt": "a" * 5000}, "prompt", "4096"),
    (COMPLETIONS, {"logprobs": 21}, "logprobs", "20"),
    (COMPLETIONS, {"stop": ["a"] * 17}, "stop", "16"),
    (COMPLETIONS, {"stop": ["a" * 1025]}, "stop.0", "1024"),
    (COMPLETIONS, {"stop": "a" * 1025}, "stop", "1024"),
    (COMPLETIONS, {"stop_token_ids": [1] * 1025}, "stop_token_ids", "1024"),
    (COMPLETIONS, {"allowed_token_ids": [1] * (2**18 + 1)}, "allowed_token_ids", "262144"),
    (COMPLETIONS, {"bad_words": ["a"] * 65}, "bad_words", "64"),
    (COMPLETIONS, {"logit_bias": biases(1025)}, "logit_bias", "1024"),
    (COMPLETIONS, {"cache_salt": "a" * 1025}, "cache_salt", "1024"),
    (COMPLETIONS, {"max_tokens": 2**31}, "max_tokens", "2147483647"),
    (COMPLETIONS, {"guided_choice": ["a"] * 1001}, "guided_choice", "1000"),
    (COMPLETIONS, {"guided_regex": "a" * 10_001}, "guided_regex", "10000"),
    (COMPLETIONS, {"guided_grammar": "a" * 70_000}, "guided_grammar", "65536"),
    (CHAT, {"messages": [USER] * 2049}, "messages", "2048"),
    (CHAT, {"messages": [{**USER, "content": "a" * 5000}]}, "messages", "4096"),
    (CHAT, {"messages": [{**USER, "content": [TEXT] * 2049}]}, "messages.0.content", "2048"),
    (
        CHAT,
        {"messages": [{"role": "assistant", "tool_calls": [CALL] * 257}, USER]},
        "messages.0.tool_calls",
        "256",
    ),
    (CHAT, {"tools": [TOOL] * 513}, "tools", "512"),
    (
        CHAT,
        {"tools": [TOOL], "tool_choice": allowed(TOOL)},
        "tool_choice.allowed_tools.tools",
        "512",
    ),
    (CHAT, {"top_logprobs": 21, "logprobs": True}, "top_logprobs", "20"),
    (RESPONSES, {"metadata": biases(17)}, "metadata", "16"),
    (RESPONSES, {"input": [ITEM] * 2049}, "input", "2048"),
    (RESPONSES, {"input": [{**ITEM, "content": [INPUT] * 2049}]}, "input.0.content", "2048"),
    (RESPONSES, {"include": ["message.output_text.logprobs"] * 17}, "include", "16"),
    (RESPONSES, {"tools": [FLAT_TOOL] * 513}, "tools", "512"),
    (MESSAGES, {"messages": [USER] * 2049}, "messages", "2048"),
    (MESSAGES, {"messages": [{**USER, "content": [TEXT] * 2049}]}, "messages", "2048"),
    (MESSAGES, {"system": [TEXT] * 2049}, "system", "2048"),
    (MESSAGES, {"stop_sequences": ["a"] * 17}, "stop_sequences", "16"),
    (COUNT, {"messages": [USER] * 2049}, "messages", "2048"),
    (EMBEDDINGS, {"input": ["a"] * 2049}, "input", "2048"),
    (EMBEDDINGS, {"input": "a" * 5000}, "input", "4096"),
    (EMBEDDINGS, {"cache_salt": "a" * 1025}, "cache_salt", "1024"),
    (TOKENIZE, {"prompt": "a" * (2**20 + 1)}, "prompt", "1048576"),
    (TOKENIZE, {"messages": [USER] * 2049}, "messages", "2048"),
    (TOKENIZE, {"messages": [USER], "tools": [TOOL] * 513}, "tools", "512"),
]

REQUIRED: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"prompt": "hi"},
    CHAT: {"messages": [USER]},
    RESPONSES: {"input": "hi"},
    MESSAGES: {"messages": [USER], "max_tokens": 5},
    COUNT: {"messages": [USER]},
    EMBEDDINGS: {"input": "hi"},
    TOKENIZE: {},
}


@pytest.mark.parametrize(
    ("path", "fields", "param", "bound"), CASES, ids=[f"{path} {p}" for path, _, p, _ in CASES]
)
async def test_each_field_has_its_bound(
    make_client: Any, path: str, fields: dict[str, Any], param: str, bound: str
) -> None:
    runner = FakeRunner()
    client = await make_client(runner=runner)
    runner.steps.clear()
    response = await client.post(path, json={"model": "fake", **REQUIRED[path], **fields})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert bound in error["message"]
    assert param in error["message"]
    if "messages" not in path:  # Anthropic's errors name no field apart
        assert error["param"] == param
    assert len(response.content) < 1000
    assert not runner.steps


class TestScores:
    """Each number is within its bound, and all together are more than fits into memory."""

    @pytest.mark.parametrize(
        ("path", "fields"),
        [
            (COMPLETIONS, {"n": 128, "max_tokens": 2000, "logprobs": 20}),
            (COMPLETIONS, {"prompt": ["a"] * 2048, "max_tokens": 100, "logprobs": 20}),
            (CHAT, {"n": 128, "max_tokens": 2000, "logprobs": True, "top_logprobs": 20}),
            (CHAT, {"n": 128, "logprobs": True, "top_logprobs": 20}),
            (
                COMPLETIONS,
                {"prompt": [[1] * 1000] * 200, "max_tokens": 0, "echo": True, "logprobs": 20},
            ),
        ],
    )
    async def test_too_many(self, make_client: Any, path: str, fields: dict[str, Any]) -> None:
        limits = LIMITS.__class__(
            num_blocks=4096, block_size=4, max_sequences=16, max_step_tokens=32, max_context=2048
        )
        client = await make_client(runner=FakeRunner(limits))
        response = await client.post(path, json={"model": "fake", **REQUIRED[path], **fields})
        assert response.status_code == 400
        assert "3145728" in response.json()["error"]["message"]

    async def test_as_many_as_the_context_has(self, make_client: Any) -> None:
        client: httpx.AsyncClient = await make_client()
        body = {"model": "fake", "prompt": "hi", "max_tokens": 50, "logprobs": 20, "n": 10}
        assert (await client.post(COMPLETIONS, json=body)).status_code == 200


class TestNames:
    """A client's own words come back to it, but not all of a body."""

    @pytest.mark.parametrize("field", ["k" * 1_000_000, "k\r\n" * 100_000])
    async def test_long_names_are_cut(self, make_client: Any, field: str) -> None:
        client = await make_client()
        response = await client.post(CHAT, json={"model": "fake", "messages": [USER], field: 1})
        assert response.status_code == 400
        assert len(response.content) < 1000

    def test_a_path_of_long_names(self) -> None:
        """Each of many elements under a long name: their paths must not be written out."""
        body = b'{"' + b"k" * 1_000_000 + b'":[' + b"1," * 100_000 + b"NaN]}"
        assert invalid_value_path(body) == "k" * 100 + ".100000"

    def test_a_deep_path(self) -> None:
        body = b'{"a":' * 500 + b"[NaN]" + b"}" * 500
        path = invalid_value_path(body)
        assert path is not None
        assert path.startswith("a.a.")
        assert len(path) < 200


@pytest.mark.parametrize(
    "body",
    [b"[" * 1_000_000, b'{"a":' * 1_000_000, b'{"model":' + b"9" * 1_000_000 + b"}", b"\xff" * 99],
)
def test_json_that_would_break_a_reader(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="not valid JSON") as error:
        parse_request(CompletionRequest, body)
    assert len(error.value.message) < 1000
