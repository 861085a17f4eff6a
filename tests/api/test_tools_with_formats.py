"""Tools together with a response format: a call, or text in the format. All three APIs."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema
import pytest

from glmserve.config import ServerConfig
from support.speaker import Speaker

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 5}},
    "required": ["city"],
}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
ANSWER = '{"name": "Ann", "age": 3}'

Said = tuple[str, list[tuple[str, Any]]]
"""The text of an answer, and name and arguments of each call."""


async def chat(client: httpx.AsyncClient, choice: str, schema: Any, **function: Any) -> Said:
    spec = {"name": "person", "schema": schema}
    body = {
        "model": "fake",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 300,
        "tools": [{"type": "function", "function": {**function, "name": "get_weather"}}],
        "tool_choice": choice,
        "response_format": {"type": "json_schema", "json_schema": spec},
    }
    response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    message = response.json()["choices"][0]["message"]
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return message["content"] or "", [(c["name"], json.loads(c["arguments"])) for c in calls]


async def responses(client: httpx.AsyncClient, choice: str, schema: Any, **function: Any) -> Said:
    body = {
        "model": "fake",
        "input": "hi",
        "max_output_tokens": 300,
        "tools": [{**function, "type": "function", "name": "get_weather"}],
        "tool_choice": choice,
        "text": {"format": {"type": "json_schema", "name": "person", "schema": schema}},
    }
    response = await client.post("/v1/responses", json=body)
    assert response.status_code == 200, response.text
    output = response.json()["output"]
    texts = [part["text"] for item in output for part in item.get("content", ())]
    calls = [item for item in output if item["type"] == "function_call"]
    return "".join(texts), [(c["name"], json.loads(c["arguments"])) for c in calls]


async def messages(client: httpx.AsyncClient, choice: str, schema: Any, **function: Any) -> Said:
    parameters = function.get("parameters", {"type": "object"})
    body = {
        "model": "fake",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 300,
        "tools": [{"name": "get_weather", "input_schema": parameters}],
        "tool_choice": {"type": {"required": "any"}.get(choice, choice)},
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }
    response = await client.post("/v1/messages", json=body)
    assert response.status_code == 200, response.text
    content = response.json()["content"]
    texts = [block["text"] for block in content if block["type"] == "text"]
    calls = [block for block in content if block["type"] == "tool_use"]
    return "".join(texts), [(c["name"], c["input"]) for c in calls]


APIS = [chat, responses, messages]


@pytest.mark.parametrize("api", APIS)
class TestAllApis:
    async def test_a_call(self, make_client: Any, api: Any) -> None:
        client = await make_client(runner=Speaker(CALL))
        said = await api(client, "auto", SCHEMA, parameters=PARAMETERS)
        assert said == ("", [("get_weather", {"city": "Oslo"})])

    async def test_an_answer(self, make_client: Any, api: Any) -> None:
        client = await make_client(runner=Speaker(ANSWER))
        assert await api(client, "auto", SCHEMA, parameters=PARAMETERS) == (ANSWER, [])

    @pytest.mark.parametrize("text", ['{"age": "x"}', '<tool_call>{"name": "no"'])
    async def test_nothing_else(self, make_client: Any, api: Any, text: str) -> None:
        client = await make_client(runner=Speaker(text))
        content, calls = await api(client, "auto", SCHEMA, parameters=PARAMETERS)
        for _, arguments in calls:
            jsonschema.validate(arguments, PARAMETERS)
        if not calls:
            jsonschema.validate(json.loads(content), SCHEMA)

    async def test_a_required_call(self, make_client: Any, api: Any) -> None:
        client = await make_client(runner=Speaker(ANSWER))
        content, calls = await api(client, "required", SCHEMA, parameters=PARAMETERS)
        assert not content
        assert [name for name, _ in calls] == ["get_weather"]

    async def test_no_call(self, make_client: Any, api: Any) -> None:
        client = await make_client(runner=Speaker(CALL))
        content, calls = await api(client, "none", SCHEMA, parameters=PARAMETERS)
        assert not calls
        jsonschema.validate(json.loads(content), SCHEMA)


async def test_json_object_with_tools_and_with_a_schema(make_client: Any) -> None:
    client = await make_client(runner=Speaker('{"a": 1}'))
    body = {
        "model": "fake",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 100,
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    for wanted, expected in (
        ({"type": "json_object"}, '{"a": 1}'),
        ({"type": "json_object", "schema": {"properties": {"a": {"const": 2}}}}, '{"a": 2}'),
    ):
        for tools in ({}, {"tool_choice": "none"}):
            fields = {**body, **tools, "response_format": wanted}
            answer = await client.post("/v1/chat/completions", json=fields)
            assert answer.json()["choices"][0]["message"]["content"] == expected


async def test_names_do_not_repeat_in_an_answer_beside_tools(make_client: Any) -> None:
    """The quote that would end the second name is refused; another character takes its place."""
    client = await make_client(runner=Speaker('{"a": 1, "a"": 2}'))
    body = {
        "model": "fake",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 100,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_object"},
    }
    answer = (await client.post("/v1/chat/completions", json=body)).json()
    pairs = json.loads(
        answer["choices"][0]["message"]["content"], object_pairs_hook=lambda pairs: pairs
    )
    assert len(dict(pairs)) == len(pairs) == 2


ODD = {"type": "object", "properties": {"e": {"type": "integer"}, "s": {"pattern": "a(?!x)"}}}
HEADER = "x-glmserve-dropped-keywords"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_left_out_is_named_in_a_header(make_client: Any, stream: bool) -> None:
    client = await make_client(runner=Speaker('{"e": 3}'))
    spec = {"name": "x", "schema": {**ODD, "required": ["e"]}}
    wanted = {"type": "json_schema", "json_schema": spec}
    tool = {"type": "function", "function": {"name": "f", "parameters": ODD}}
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    answer = await client.post("/v1/chat/completions", json={**body, "response_format": wanted})
    assert answer.headers[HEADER] == "#/properties/s/pattern"
    fields = {"tools": [tool], "response_format": wanted}
    answer = await client.post("/v1/chat/completions", json={**body, **fields})
    assert answer.headers[HEADER] == "#/properties/s/pattern, f#/properties/s/pattern"
    answer = await client.post(
        "/v1/chat/completions", json={**body, "tools": [tool], "tool_choice": "required"}
    )
    assert answer.headers[HEADER] == "f#/properties/s/pattern"
    answer = await client.post("/v1/chat/completions", json=body)
    assert HEADER not in answer.headers


async def test_the_header_in_other_apis(make_client: Any) -> None:
    client = await make_client(runner=Speaker('{"e": 3}'))
    wanted = {"type": "json_schema", "name": "x", "schema": ODD}
    body = {"model": "fake", "input": "hi", "text": {"format": wanted}}
    answer = await client.post("/v1/responses", json=body)
    assert answer.headers[HEADER] == "#/properties/s/pattern"
    body = {
        "model": "fake",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 100,
        "tools": [{"name": "f", "input_schema": ODD}],
        "tool_choice": {"type": "any"},
    }
    answer = await client.post("/v1/messages", json=body)
    assert answer.headers[HEADER] == "f#/properties/s/pattern"


async def test_the_response_cache_keeps_the_header(make_client: Any) -> None:
    config = ServerConfig(served_model_name="fake", cache_size=4)
    client = await make_client(runner=Speaker('{"e": 3}'), config=config)
    spec = {"name": "x", "schema": ODD}
    body = {
        "model": "fake",
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": {"type": "json_schema", "json_schema": spec},
    }
    for kept in ("miss", "hit"):
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.headers["x-glmserve-cache"] == kept
        assert answer.headers[HEADER] == "#/properties/s/pattern"


async def test_strict_schemas_are_refused_by_keyword(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
    spec = {"name": "x", "schema": ODD, "strict": True}
    wanted = {"type": "json_schema", "json_schema": spec}
    tool = {"type": "function", "function": {"name": "f", "parameters": ODD, "strict": True}}
    for fields, param, owner in (
        ({"response_format": wanted}, "response_format.json_schema.schema", ""),
        ({"tools": [tool]}, "tools", "the parameters of 'f': "),
        ({"tools": [tool], "response_format": {"type": "json_object"}}, "tools", "'f': "),
    ):
        answer = await client.post("/v1/chat/completions", json={**body, **fields})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == param
        assert f"{owner}the schema at /properties/s: pattern has look-around" in error["message"]


async def test_the_header_is_bounded(make_client: Any) -> None:
    client = await make_client(runner=Speaker("{}"))
    odd = {"type": "string", "pattern": "a(?!b)"}
    properties = {f"é, {i}" + 50 * "x": odd for i in range(100)}
    wanted = {"type": "json_object", "schema": {"properties": properties}}
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
    answer = await client.post("/v1/chat/completions", json={**body, "response_format": wanted})
    names = answer.headers[HEADER].split(", ")
    assert names[0] == f"#/properties/%C3%A9%2C%200{50 * 'x'}/pattern"
    assert names[-1] == f"and {101 - len(names)} more"
    assert len(answer.headers[HEADER]) < 2100


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_schema", "schema": {"enum": [7]}},
        {"type": "json_schema", "name": "x", "strict": True, "schema": {"enum": [7]}},
        {"type": "json_schema", "json_schema": {"schema": {"enum": [7]}}},
    ],
)
async def test_llama_cpps_forms_of_a_format(client: httpx.AsyncClient, wanted: Any) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "response_format": wanted}
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"].strip() == "7"


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"type": "json_schema"}, "response_format.json_schema"),
        (
            {"type": "json_schema", "schema": {}, "json_schema": {"schema": {}}},
            "response_format.schema",
        ),
        ({"type": "json_schema", "schema": False}, "response_format.schema"),
        ({"type": "json_schema", "strict": True, "schema": {"not": 1}}, "response_format.schema"),
    ],
)
async def test_formats_without_a_schema(client: httpx.AsyncClient, wanted: Any, param: str) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "response_format": wanted}
    answer = await client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
