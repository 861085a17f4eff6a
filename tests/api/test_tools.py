"""Tools and structured output through the API; FakeRunner takes the nearest id that is allowed."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema
import pytest

from support.speaker import Speaker

CHAT = "/v1/chat/completions"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 5}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"],
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
TIME = {"type": "function", "function": {"name": "get_time"}}
CALL = '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'


LIST = {"type": "array", "items": {}}


def chat(**fields: Any) -> dict[str, Any]:
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
    return {**body, "temperature": 0, "max_tokens": 300, **fields}


async def ask(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """The only choice of a whole answer, after the streamed one was found to say the same."""
    response = await client.post(CHAT, json=chat(**fields))
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    streamed = await client.post(CHAT, json=chat(**fields, stream=True))
    assert without_ids(joined(streamed.text)) == without_ids(choice)
    return choice  # type: ignore[no-any-return]


def joined(text: str) -> dict[str, Any]:
    """A streamed choice as it would have come whole."""
    *blocks, done, _ = text.split("\n\n")
    assert done == "data: [DONE]"
    choices = [json.loads(block.removeprefix("data: "))["choices"][0] for block in blocks]
    message: dict[str, Any] = {"role": None, "content": None, "refusal": None}
    for delta in (choice["delta"] for choice in choices):
        message["role"] = delta.get("role", message["role"])
        if delta.get("content") is not None:
            message["content"] = (message["content"] or "") + delta["content"]
        for call in delta.get("tool_calls", []):
            calls = message.setdefault("tool_calls", [])
            if call["index"] == len(calls):
                calls.append({"function": {"name": call["function"]["name"], "arguments": ""}})
                assert call["id"].startswith("call_")
                assert call["type"] == "function"
            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    reasons = [choice["finish_reason"] for choice in choices]
    assert reasons[:-1] == [None] * (len(choices) - 1)
    return {"message": message, "finish_reason": reasons[-1]}


def without_ids(choice: dict[str, Any]) -> dict[str, Any]:
    message = dict(choice["message"])
    message["content"] = message["content"] or None
    if "tool_calls" in message:
        message["tool_calls"] = [call["function"] for call in message["tool_calls"]]
    return {"message": message, "finish_reason": choice["finish_reason"]}


class TestToolCalls:
    async def test_a_call_among_text(self, make_client: Any) -> None:
        client = await make_client(runner=Speaker(f"Let me see. {CALL}"))
        choice = await ask(client, tools=[TIME, WEATHER])
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] == "Let me see."
        (call,) = choice["message"]["tool_calls"]
        assert call["function"] == {"name": "get_time", "arguments": "{}"}

    async def test_content_is_null_beside_calls(self, make_client: Any) -> None:
        client = await make_client(runner=Speaker(f"{CALL}\n{CALL}"))
        choice = await ask(client, tools=[TIME])
        assert choice["message"]["content"] is None
        assert len({call["id"] for call in choice["message"]["tool_calls"]}) == 2
        choice = await ask(client, tools=[TIME], parallel_tool_calls=False)
        assert len(choice["message"]["tool_calls"]) == 1

    @pytest.mark.parametrize("fields", [{}, {"tools": [TIME], "tool_choice": "none"}])
    async def test_without_tools_a_call_is_text(
        self, make_client: Any, fields: dict[str, Any]
    ) -> None:
        client = await make_client(runner=Speaker(CALL))
        choice = await ask(client, **fields)
        assert choice["message"]["content"] == CALL
        assert choice["finish_reason"] == "stop"
        assert "tool_calls" not in choice["message"]

    @pytest.mark.parametrize(
        ("tool_choice", "name"),
        [
            ("required", "get_time"),
            ({"type": "function", "function": {"name": "get_weather"}}, "get_weather"),
            (
                {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "get_weather"}}],
                    },
                },
                "get_weather",
            ),
        ],
    )
    async def test_a_call_that_must_be(self, make_client: Any, tool_choice: Any, name: str) -> None:
        client = await make_client(runner=Speaker("No, never."))
        choice = await ask(client, tools=[TIME, WEATHER], tool_choice=tool_choice)
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        function = choice["message"]["tool_calls"][0]["function"]
        assert function["name"] in (name, "get_weather")
        if function["name"] == "get_weather":
            jsonschema.validate(json.loads(function["arguments"]), PARAMETERS)

    async def test_a_strict_tool_is_called_right_or_not_at_all(self, make_client: Any) -> None:
        strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
        wrong = '<tool_call>{"name": "get_weather", "arguments": {"town": 3}}</tool_call>'
        client = await make_client(runner=Speaker(wrong))
        function = (await ask(client, tools=[strict]))["message"]["tool_calls"][0]["function"]
        jsonschema.validate(json.loads(function["arguments"]), PARAMETERS)
        client = await make_client(runner=Speaker("Just text <tool_"))
        assert (await ask(client, tools=[strict]))["message"]["content"] == "Just text <tool_"

    async def test_what_a_grammar_cannot_say_matters_only_to_strict_tools(
        self, make_client: Any
    ) -> None:
        parameters = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
        function = {"name": "f", "parameters": parameters}
        client = await make_client(runner=Speaker("x"))
        tools = [{"type": "function", "function": function}]
        choice = await ask(client, tools=tools, tool_choice="required")
        assert choice["message"]["tool_calls"][0]["function"]["name"] == "f"
        tools = [{"type": "function", "function": {**function, "strict": True}}]
        response = await client.post(CHAT, json=chat(tools=tools))
        assert response.status_code == 400
        assert "uniqueItems" in response.json()["error"]["message"]

    async def test_only_the_tool_that_a_grammar_cannot_say_is_free(self, make_client: Any) -> None:
        odd = {"name": "odd", "parameters": {"type": "object", "minItems": -1}}
        wrong = '<tool_call>{"name": "get_weather", "arguments": {"town": 3}}</tool_call>'
        client = await make_client(runner=Speaker(wrong))
        tools = [WEATHER, {"type": "function", "function": odd}]
        choice = await ask(client, tools=tools, tool_choice="required")
        function = choice["message"]["tool_calls"][0]["function"]
        assert function["name"] == "get_weather"
        jsonschema.validate(json.loads(function["arguments"]), PARAMETERS)

    async def test_results_reach_the_prompt(self, make_client: Any) -> None:
        runner = Speaker("ok")
        client = await make_client(runner=runner)
        function = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
        messages = [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ]
        for tools in ({}, {"tools": [WEATHER]}):
            body = {**chat(**tools), "messages": messages, "return_token_ids": True}
            response = (await client.post(CHAT, json=body)).json()
            prompt = bytes(response["prompt_token_ids"]).decode()
            assert '{"city": "Oslo"}' in prompt
            assert "rain" in prompt

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"tools": [TIME, TIME]}, "tools"),
            (
                {"tools": [{"type": "function", "function": {"name": "f", "parameters": LIST}}]},
                "tools",
            ),
            ({"tool_choice": "auto", "tools": [{"type": "function"}]}, "tools.0.function"),
            (
                {"tools": [TIME], "tool_choice": {"type": "function", "function": {"name": "f"}}},
                "tool_choice",
            ),
            ({"tools": [TIME], "guided_regex": "a+"}, "guided_regex"),
            ({"tools": [TIME], "tool_choice": "required", "guided_choice": ["x"]}, "guided_choice"),
            ({"tools": [TIME], "tool_choice": "required", "bad_words": ["x"]}, "bad_words"),
        ],
    )
    async def test_what_cannot_be(
        self, client: httpx.AsyncClient, fields: dict[str, Any], param: str
    ) -> None:
        response = await client.post(CHAT, json=chat(max_tokens=4, **fields))
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == param


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


class TestStructuredOutput:
    @pytest.mark.parametrize(
        "fields",
        [
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "person", "strict": True, "schema": SCHEMA},
                }
            },
            {"guided_json": SCHEMA},
            {"guided_json": json.dumps(SCHEMA)},
            {"structured_outputs": {"json": SCHEMA}},
        ],
    )
    @pytest.mark.parametrize("text", ["no", '{"name": "x" }', '{"age": 3}', "   ", '{"name":"\\n'])
    async def test_a_schema(self, make_client: Any, fields: dict[str, Any], text: str) -> None:
        client = await make_client(runner=Speaker(text))
        choice = await ask(client, **fields, n=1)
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"guided_choice": ["yes", "no"]}, "no"),
            ({"guided_regex": "[a-c]{3}n?"}, "aaa"),
            ({"guided_grammar": 'root ::= "m" | "zz"'}, "zz"),
            ({"structured_outputs": {"regex": "x{2}y"}}, "xxy"),
            ({"bad_words": ["no"]}, "np"),
        ],
    )
    async def test_other_structures(
        self, make_client: Any, fields: dict[str, Any], expected: str
    ) -> None:
        client = await make_client(runner=Speaker("no"))
        choice = await ask(client, **fields)
        content = choice["message"]["content"]
        if "bad_words" in fields:
            assert "no" not in content
        else:
            assert content == expected
        assert choice["finish_reason"] == "stop"

    async def test_it_ends_though_the_model_may_not(self, make_client: Any) -> None:
        """ignore_eos and min_tokens speak of stop tokens; a finished structure needs none."""
        client = await make_client(runner=Speaker("yes"))
        choice = await ask(client, guided_choice=["yes"], ignore_eos=True, min_tokens=50)
        assert choice["message"]["content"] == "yes"
        assert choice["finish_reason"] == "stop"

    async def test_length_cuts_it_and_says_so(self, make_client: Any) -> None:
        client = await make_client(runner=Speaker("{"))
        choice = await ask(client, guided_json=SCHEMA, max_tokens=4)
        assert choice["finish_reason"] == "length"

    async def test_in_text_completions_and_for_every_choice(self, make_client: Any) -> None:
        client = await make_client(runner=Speaker("no"))
        body = {"model": "fake", "prompt": ["a", "b"], "n": 2, "guided_choice": ["maybe", "no"]}
        choices = (await client.post("/v1/completions", json=body)).json()["choices"]
        assert [c["text"] for c in choices] == ["no"] * 4

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"guided_regex": "a("}, "guided_regex"),
            ({"guided_choice": []}, "guided_choice"),
            ({"guided_grammar": "start: nothing"}, "guided_grammar"),
            ({"guided_json": {"type": "nonsense"}}, "guided_json"),
            ({"guided_json": {"type": "array", "uniqueItems": True}}, "guided_json"),
            ({"guided_json": {"enum": []}}, "guided_json"),
            ({"guided_json": "{"}, "guided_json"),
            ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
            ({"guided_regex": "a", "bad_words": ["a"]}, "bad_words"),
        ],
    )
    async def test_what_cannot_be(
        self, client: httpx.AsyncClient, fields: dict[str, Any], param: str
    ) -> None:
        response = await client.post(CHAT, json=chat(max_tokens=4, **fields))
        assert response.status_code == 400, response.text
        error = response.json()["error"]
        assert error["param"] == param
        assert param in error["message"]

    async def test_without_a_tokenizer_it_is_refused(self, make_client: Any) -> None:
        client = await make_client(with_tokenizer=False)
        body = {"model": "fake", "prompt": [1], "guided_regex": "a"}
        response = await client.post("/v1/completions", json=body)
        assert response.status_code == 400
        assert "no tokenizer" in response.json()["error"]["message"]


async def test_tools_of_other_servers_are_left_out_and_named(client: httpx.AsyncClient) -> None:
    """ZhipuAI's SDKs, and OpenAI's custom tools."""
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    plain = await client.post("/v1/chat/completions", json=body | {"temperature": 0})
    tools = [
        {"type": "web_search", "web_search": {"enable": False}},
        {"type": "custom", "custom": {"name": "patch"}},
    ]
    answer = await client.post(
        "/v1/chat/completions", json=body | {"temperature": 0, "tools": tools}
    )
    assert answer.headers["X-Glmserve-Left-Out-Tools"] == "web_search, custom"
    assert answer.json()["choices"] == plain.json()["choices"]
    refused = await client.post(
        "/v1/chat/completions", json=body | {"tools": tools, "tool_choice": "required"}
    )
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "tool_choice"
    assert "no function" in refused.json()["error"]["message"]
