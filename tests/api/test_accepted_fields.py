"""Neutral values and hints are accepted, other values of the same fields are refused by name."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from glmserve.api.anthropic.protocol import MessagesRequest
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.protocol import ChatCompletionRequest, CompletionRequest, StrictModel
from glmserve.api.protocol.accepted.fields import AcceptedField, hint, neutral, table
from glmserve.api.protocol.adapters import LoadLoraAdapterRequest
from glmserve.api.protocol.base import accepted_fields
from glmserve.api.protocol.embeddings import EmbeddingRequest
from glmserve.api.protocol.parsing import parse_data
from glmserve.config import ServerConfig
from glmserve.errors import InvalidRequestError

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
LEAST: dict[type[StrictModel], dict[str, Any]] = {
    ChatCompletionRequest: {"model": "fake", "messages": MESSAGES},
    CompletionRequest: {"model": "fake", "prompt": "hi"},
    ResponsesRequest: {"model": "fake", "input": "hi"},
    MessagesRequest: {"model": "fake", "messages": MESSAGES, "max_tokens": 4},
    EmbeddingRequest: {"model": "fake", "input": "hi"},
    LoadLoraAdapterRequest: {"lora_name": "sql", "lora_path": "/adapters/sql"},
}
ROWS = [(model, field) for model in LEAST for field in accepted_fields(model).values()]
OF_TYPE = {bool: True, int: 3, float: 0.5, str: "x", list: [1], dict: {"a": {"b": 1}}}


def values_of(field: AcceptedField) -> list[Any]:
    if field.is_neutral:
        return list(field.values)
    return [OF_TYPE[kind] for kind in field.types or OF_TYPE]


@pytest.mark.parametrize(
    ("model", "field"), ROWS, ids=[f"{model.__name__}-{field.name}" for model, field in ROWS]
)
def test_every_field_of_a_table(model: type[StrictModel], field: AcceptedField) -> None:
    bare = parse_data(model, LEAST[model])
    for value in values_of(field):
        parsed = parse_data(model, {**LEAST[model], field.name: value})
        assert parsed == bare
        assert parsed.model_fields_set == bare.model_fields_set
    for value in ("no such value", {"no": "such value"}, [7], 7.25):
        if field.refusal(value) is None:
            continue
        with pytest.raises(InvalidRequestError) as caught:
            parse_data(model, {**LEAST[model], field.name: value})
        assert caught.value.param == field.name
        assert field.name in caught.value.message
        assert field.possible in caught.value.message


def test_values_are_compared_as_json() -> None:
    number = neutral("x", [1], "a client", "A number.", "there is no other")
    assert number.refusal(1.0) is None
    assert number.refusal(True) is not None
    flag = neutral("x", [False], "a client", "A switch.", "it cannot be switched")
    assert flag.refusal(0) is not None
    assert hint("x", "a client", "A number.", float).refusal(1) is None
    assert hint("x", "a client", "A number.", int).refusal(True) is not None
    assert hint("x", "a client", "Anything.").refusal([{}]) is None


def test_a_table_has_each_field_once() -> None:
    row = hint("x", "a client", "A note.")
    with pytest.raises(ValueError, match="twice"):
        table(row, row)
    with pytest.raises(ValueError, match="needs its values"):
        neutral("x", [], "a client", "A note.", "no")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "hi", "name": "ann"}],
        [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {}}]}],
        [*MESSAGES, {"role": "assistant", "content": "x", "reasoning_content": ""}, *MESSAGES],
        [{"role": "system", "content": "x", "name": "rules"}, *MESSAGES],
    ],
)
async def test_fields_of_inner_objects(
    client: httpx.AsyncClient, messages: list[dict[str, Any]]
) -> None:
    body = {"model": "fake", "messages": messages, "max_tokens": 4}
    response = await client.post(CHAT, json=body)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "arguments",
    [
        {"enable_thinking": False},
        {"enable_thinking": True, "thinking": True, "reasoning_effort": "low"},
        {"add_generation_prompt": True, "tools": None, "a_variable": {"of": ["a template"]}},
    ],
)
async def test_variables_of_templates(client: httpx.AsyncClient, arguments: Any) -> None:
    body = {"model": "fake", "messages": MESSAGES, "max_tokens": 4, "temperature": 0}
    plain = (await client.post(CHAT, json=body)).json()
    answer = (await client.post(CHAT, json={**body, "chat_template_kwargs": arguments})).json()
    assert answer["choices"] == plain["choices"]
    tokens = await client.post(
        "/tokenize", json={"messages": MESSAGES, "chat_template_kwargs": arguments}
    )
    assert tokens.status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"chat_template_kwargs": {"tools": [1]}}, "chat_template_kwargs.tools"),
        ({"chat_template_kwargs": {"enable_thinking": 1}}, "chat_template_kwargs.enable_thinking"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"messages": [{"role": "user", "content": "x", "user": 1}]}, "messages.0.user"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "x", "text2": 1}]}
                ]
            },
            "messages.0.content.0.text2",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]},
            "messages.0.content.0.text",
        ),
        ({"messages": [{"role": "tool", "content": "x", "tool": 1}]}, "messages.0.tool"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"json_schema": 1}}},
            "response_format.json_schema.json_schema",
        ),
        (
            {"tool_choice": {"type": "function", "function": {"function": 1}}},
            "tool_choice.function.function",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, 5]}]},
            "messages.0.content.1",
        ),
        ({"logit_bias": {"logit_bias": 101}}, "logit_bias.logit_bias"),
    ],
)
async def test_an_error_names_the_field_and_no_member_of_a_union(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await client.post(CHAT, json={"model": "fake", "messages": MESSAGES, **body})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert param in error["message"]


async def test_unknown_fields_can_be_ignored_and_are_logged_once(
    make_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = ServerConfig(served_model_name="fake", ignore_unknown_fields=True)
    client = await make_client(config=config)
    message = {**MESSAGES[0], "mood": "good"}
    body = {"model": "fake", "messages": [message], "max_tokens": 4, "tint": 1}
    response = await client.post(CHAT, json={**body, "best_of": 2})
    assert response.status_code == 400, "a known field is refused as ever"
    assert response.json()["error"]["param"] == "best_of"
    names = [f"unknown{number}" for number in range(200)]
    with caplog.at_level(logging.WARNING):
        for name in ("tint", *names):
            assert (await client.post(CHAT, json={**body, name: 1})).status_code == 200
    lines = [r.getMessage() for r in caplog.records if "unknown field" in r.getMessage()]
    assert len(lines) == 101
    assert len(set(lines)) == 101
    assert sum("'mood'" in line for line in lines) <= 1


async def test_empty_stop_strings_and_bad_words_ask_for_nothing(
    client: httpx.AsyncClient,
) -> None:
    body = {"model": "fake", "prompt": "abc", "max_tokens": 20, "temperature": 0}
    plain = (await client.post("/v1/completions", json=body)).json()["choices"][0]["text"]
    last = plain[-1]
    for fields in ({"stop": ""}, {"stop": ["", ""]}, {"bad_words": [""]}):
        answer = await client.post("/v1/completions", json=body | fields)
        assert answer.json()["choices"][0]["text"] == plain
    answer = await client.post("/v1/completions", json=body | {"stop": ["", last]})
    assert answer.json()["choices"][0]["text"] == plain[: plain.index(last)]
