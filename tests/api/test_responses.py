"""/v1/responses: items, events, stored conversations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseItemList, ResponseStreamEvent
from pydantic import BaseModel

from glmserve.config import ServerConfig
from glmserve.engine import Engine
from support import openai_schemas
from support.disconnects import leave_after
from support.fake_server import client_of, serve, tenants
from support.fakes import LIMITS, FakeRunner, expected_output
from support.named_events import NamedEvent, named_events
from support.scripted import ROOMY, ScriptedRunner

RESPONSES = "/v1/responses"
CHAT = "/v1/chat/completions"

PARAMETERS = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
TOOL = {"type": "function", "name": "look_up", "parameters": PARAMETERS}
CALL = '<tool_call>{"name": "look_up", "arguments": {"word": "%s"}}</tool_call>'

EVENTS = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in get_args(get_args(ResponseStreamEvent)[0])
}
"""The published event types by their names."""

CREATED = ["response.created", "response.in_progress"]
ADDED = ["response.output_item.added", "response.content_part.added"]
TEXT_DONE = [
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "fake", "input": "hi", "temperature": 0, "max_output_tokens": 12, **fields}


def expected_text(prompt: str, num_tokens: int = 12) -> str:
    return bytes(expected_output([*prompt.encode()], num_tokens)).decode()


def text_of(response: dict[str, Any]) -> str:
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


async def create(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(RESPONSES, json=body(**fields))
    assert answer.status_code == 200, answer.text
    openai_schemas.checked(Response, answer.json(), openai_schemas.RESPONSE_EXTENSIONS)
    return answer.json()  # type: ignore[no-any-return]


async def stream(client: httpx.AsyncClient, **fields: Any) -> list[NamedEvent]:
    events = named_events(await client.post(RESPONSES, json=body(stream=True, **fields)))
    assert [event.data["sequence_number"] for event in events] == list(range(len(events)))
    for name, data in events:
        assert data["type"] == name
        openai_schemas.checked(EVENTS[name], data, openai_schemas.RESPONSE_EXTENSIONS)
    return events


async def error_of(client: httpx.AsyncClient, fields: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(RESPONSES, json=body(**fields))
    assert answer.status_code == 400, answer.text
    openai_schemas.checked_error(answer.json())
    return answer.json()["error"]  # type: ignore[no-any-return]


def without_ids(value: Any) -> Any:
    """The same without what is new every time."""
    if isinstance(value, list):
        return [without_ids(item) for item in value]
    if isinstance(value, dict):
        new = ("id", "call_id", "created_at", "completed_at", "input_tokens_details")
        return {name: without_ids(item) for name, item in value.items() if name not in new}
    return value


@pytest.fixture
async def roomy(make_client: Any) -> httpx.AsyncClient:
    return await make_client(runner=FakeRunner(ROOMY))  # type: ignore[no-any-return]


async def test_a_response(client: httpx.AsyncClient) -> None:
    response = await create(client, metadata={"a": "b"}, user="me", instructions="Be.")
    assert response["id"].startswith("resp_")
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["error"] is None
    (item,) = response["output"]
    assert item["id"].startswith("msg_")
    assert item == {
        "id": item["id"],
        "type": "message",
        "role": "assistant",
        "status": "incomplete",
        "content": [
            {
                "type": "output_text",
                "text": expected_text("system:Be.\nuser:hi\n"),
                "annotations": [],
                "logprobs": [],
            }
        ],
    }
    assert response["usage"] == {
        "input_tokens": 19,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 31,
    }
    said = {"instructions": "Be.", "metadata": {"a": "b"}, "user": "me", "temperature": 0.0}
    assert response.items() >= said.items()


SHAPES: dict[str, dict[str, Any]] = {
    "text": {},
    "stopped": {"stop": [chr(i) for i in range(97, 110)]},
    "tools": {"tools": [TOOL]},
    "call": {"tools": [TOOL], "tool_choice": "required"},
    "named call": {"tools": [TOOL], "tool_choice": {"type": "function", "name": "look_up"}},
    "allowed call": {
        "tools": [TOOL, {**TOOL, "name": "g"}],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "look_up"}],
        },
    },
    "no call": {"tools": [TOOL], "tool_choice": "none"},
    "json_object": {"text": {"format": {"type": "json_object"}}},
    "json_schema": {
        "text": {
            "format": {
                "type": "json_schema",
                "name": "bit",
                "strict": True,
                "schema": {"type": "boolean"},
            },
            "verbosity": "medium",
        }
    },
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    "extensions": {"guided_choice": ["yes", "no"], "top_k": 3, "seed": 1, "min_p": 0.1},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_a_stream_tells_what_the_whole_response_says(
    roomy: httpx.AsyncClient, shape: dict[str, Any]
) -> None:
    shape = {"max_output_tokens": 150, **shape}
    whole = await create(roomy, **shape)
    events = await stream(roomy, **shape)
    assert without_ids(events[-1].data["response"]) == without_ids(whole)
    assert [event.name for event in events[:2]] == CREATED
    assert events[-1].name == f"response.{whole['status']}"
    done = [e.data["item"] for e in events if e.name == "response.output_item.done"]
    assert done == events[-1].data["response"]["output"]
    for index, item in enumerate(done):
        deltas = [
            e.data["delta"]
            for e in events
            if e.name.endswith(".delta") and e.data["output_index"] == index
        ]
        is_message = item["type"] == "message"
        assert "".join(deltas) == (item["content"][0]["text"] if is_message else item["arguments"])


async def test_items_come_in_the_order_of_their_text(make_client: Any) -> None:
    text = f"First. {CALL % 'a'}\n{CALL % 'b'} Then."
    client = await make_client(runner=ScriptedRunner(text))
    shape = {"tools": [TOOL], "max_output_tokens": 200}
    whole = await create(client, **shape)
    assert whole["status"] == "completed"
    assert [item["type"] for item in whole["output"]] == [
        "message",
        "function_call",
        "function_call",
        "message",
    ]
    assert text_of(whole) == "First.Then."
    calls = whole["output"][1:3]
    assert [call["arguments"] for call in calls] == ['{"word": "a"}', '{"word": "b"}']
    assert len({call["call_id"] for call in calls}) == 2
    events = await stream(client, **shape)
    assert without_ids(events[-1].data["response"]) == without_ids(whole)
    names = [event.name for event in events if not event.name.endswith(".delta")]
    called = [
        "response.output_item.added",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    message = [*ADDED, *TEXT_DONE]
    assert names == [*CREATED, *message, *called, *called, *message, "response.completed"]


async def test_without_parallel_calls_there_is_one(make_client: Any) -> None:
    client = await make_client(runner=ScriptedRunner(f"{CALL % 'a'}\n{CALL % 'b'}"))
    shape = {"tools": [TOOL], "parallel_tool_calls": False, "max_output_tokens": 200}
    response = await create(client, **shape)
    assert [item["type"] for item in response["output"]] == ["function_call"]
    assert response["parallel_tool_calls"] is False


async def test_nothing_said_is_an_empty_message(make_client: Any) -> None:
    client = await make_client(runner=ScriptedRunner(""))
    response = await create(client)
    assert response["status"] == "completed"
    assert text_of(response) == ""
    names = [event.name for event in await stream(client)]
    assert names == [*CREATED, *ADDED, *TEXT_DONE, "response.completed"]


async def test_a_call_that_is_cut_is_incomplete(make_client: Any) -> None:
    client = await make_client(runner=ScriptedRunner(CALL % "abc"))
    response = await create(client, tools=[TOOL], max_output_tokens=56)
    (call,) = response["output"]
    assert response["status"] == call["status"] == "incomplete"
    assert '{"word": "abc"}'.startswith(call["arguments"])


async def test_logprobs_are_those_of_the_text(client: httpx.AsyncClient) -> None:
    shape = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    whole = await create(client, **shape)
    logprobs = whole["output"][0]["content"][0]["logprobs"]
    assert "".join(entry["token"] for entry in logprobs) == text_of(whole)
    assert all(len(entry["top_logprobs"]) == 2 for entry in logprobs)
    deltas = [e.data for e in await stream(client, **shape) if e.name.endswith("text.delta")]
    for delta in deltas:  # of one token, or of several that came together
        assert "".join(entry["token"] for entry in delta["logprobs"]) == delta["delta"]


CONVERSATION: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
    {"type": "message", "role": "assistant", "content": "b"},
    {"type": "function_call", "call_id": "1", "name": "look_up", "arguments": "{}"},
    {"type": "function_call", "call_id": "2", "name": "look_up", "arguments": '{"word": "x"}'},
    {"type": "function_call_output", "call_id": "2", "output": "two"},
    {
        "type": "function_call_output",
        "call_id": "1",
        "output": [{"type": "input_text", "text": "one"}],
    },
    {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [
            {"type": "output_text", "text": "c", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "d"},
        ],
    },
    {"role": "user", "content": "e"},
]

SAME_CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "a"},
    {
        "role": "assistant",
        "content": "b",
        "tool_calls": [
            {"id": "1", "function": {"name": "look_up", "arguments": "{}"}},
            {"id": "2", "function": {"name": "look_up", "arguments": '{"word": "x"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "2", "content": "two"},
    {"role": "tool", "tool_call_id": "1", "content": "one"},
    {"role": "assistant", "content": "cd"},
    {"role": "user", "content": "e"},
]


async def test_the_model_reads_the_same_as_from_chat_completions(
    roomy: httpx.AsyncClient,
) -> None:
    """What FakeRunner says depends on every token it reads."""
    response = await create(roomy, input=CONVERSATION)
    chat = {"model": "fake", "messages": SAME_CHAT, "temperature": 0, "max_tokens": 12}
    answer = (await roomy.post(CHAT, json=chat)).json()
    assert text_of(response) == answer["choices"][0]["message"]["content"]
    assert response["usage"]["input_tokens"] == answer["usage"]["prompt_tokens"]


async def test_a_conversation_goes_on_from_a_response(roomy: httpx.AsyncClient) -> None:
    first = await create(roomy, input="What is it? " * 5, instructions="Be brief.")
    second = await create(roomy, input="And then?", previous_response_id=first["id"])
    third = await create(roomy, input="So?", previous_response_id=second["id"])
    turns = [("What is it? " * 5, first), ("And then?", second)]
    prompt = "".join(f"user:{asked}\nassistant:{text_of(said)}\n" for asked, said in turns)
    assert text_of(third) == expected_text(f"{prompt}user:So?\n")
    assert third["previous_response_id"] == second["id"]
    assert third["instructions"] is None
    assert third["usage"]["input_tokens_details"]["cached_tokens"] > 60


async def test_a_call_is_answered_in_a_later_response(make_client: Any) -> None:
    client = await make_client(runner=ScriptedRunner(CALL % "x", "It is y."))
    shape = {"tools": [TOOL], "max_output_tokens": 100}
    asked = await create(client, **shape)
    call_id = asked["output"][0]["call_id"]
    result = {"type": "function_call_output", "call_id": call_id, "output": "y"}
    answered = await create(client, input=[result], previous_response_id=asked["id"], **shape)
    assert text_of(answered) == "It is y."
    listed = (await client.get(f"{RESPONSES}/{answered['id']}/input_items?order=asc")).json()
    openai_schemas.checked(ResponseItemList, listed)
    kinds = [item["type"] for item in listed["data"]]
    assert kinds == ["message", "function_call", "function_call_output"]


class TestStored:
    async def test_a_response_can_be_fetched_until_it_is_deleted(
        self, client: httpx.AsyncClient
    ) -> None:
        response = await create(client)
        path = f"{RESPONSES}/{response['id']}"
        assert (await client.get(path)).json() == response
        deleted = await client.delete(path)
        assert deleted.json() == {"id": response["id"], "object": "response", "deleted": True}
        for gone in (
            await client.get(path),
            await client.delete(path),
            await client.get(f"{path}/input_items"),
        ):
            assert gone.status_code == 404
            openai_schemas.checked_error(gone.json())

    async def test_a_stream_is_stored_when_it_ends(self, client: httpx.AsyncClient) -> None:
        last = (await stream(client))[-1].data["response"]
        assert (await client.get(f"{RESPONSES}/{last['id']}")).json() == last

    async def test_not_if_it_is_not_to_be(self, client: httpx.AsyncClient) -> None:
        response = await create(client, store=False)
        assert (await client.get(f"{RESPONSES}/{response['id']}")).status_code == 404
        error = await error_of(client, {"previous_response_id": response["id"]})
        assert error["code"] == "previous_response_not_found"
        assert error["param"] == "previous_response_id"

    async def test_the_oldest_one_goes_first(self, make_client: Any) -> None:
        config = ServerConfig(served_model_name="fake", response_store_size=2)
        client = await make_client(config=config)
        paths = [f"{RESPONSES}/{(await create(client))['id']}" for _ in range(2)]
        assert (await client.get(paths[0])).status_code == 200  # used: the other is older now
        await create(client)
        assert [(await client.get(path)).status_code for path in paths] == [200, 404]

    async def test_a_server_that_keeps_none_says_so(self, make_client: Any) -> None:
        config = ServerConfig(served_model_name="fake", response_store_size=0)
        client = await make_client(config=config)
        response = await create(client)
        assert (await client.get(f"{RESPONSES}/{response['id']}")).status_code == 404
        for fields in ({"store": True}, {"previous_response_id": response["id"]}):
            error = await error_of(client, fields)
            assert error["param"] in fields
            assert "--response-store-size" in error["message"]

    async def test_responses_are_their_owners(self, make_client: Any) -> None:
        config = ServerConfig(served_model_name="fake", api_keys=tenants("one", "two"))
        client = await make_client(config=config)
        client.headers["Authorization"] = "Bearer one"
        response = await create(client)
        path = f"{RESPONSES}/{response['id']}"
        client.headers["Authorization"] = "Bearer two"
        assert (await client.get(path)).status_code == 404
        assert (await client.delete(path)).status_code == 404
        assert (await client.get(f"{path}/input_items")).status_code == 404
        assert await error_of(client, {"previous_response_id": response["id"]})
        client.headers["Authorization"] = "Bearer one"
        assert (await client.get(path)).status_code == 200

    async def test_input_items_come_in_pages(self, roomy: httpx.AsyncClient) -> None:
        response = await create(roomy, input=CONVERSATION)
        path = f"{RESPONSES}/{response['id']}/input_items"
        whole = (await roomy.get(path, params={"order": "asc"})).json()
        openai_schemas.checked(ResponseItemList, whole)
        assert len(whole["data"]) == len(CONVERSATION)
        assert whole["data"][7]["id"] == "msg_1"
        assert not whole["has_more"]
        found, after = [], None
        while True:
            params = {"limit": 4, **({"after": after} if after else {})}
            page = (await roomy.get(path, params=params)).json()
            found += page["data"]
            after = page["last_id"]
            assert page["first_id"] == page["data"][0]["id"]
            if not page["has_more"]:
                break
        assert found[::-1] == whole["data"]

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ("order=up", "order"),
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=x", "limit"),
            ("after=msg_0", "after"),
            ("before=x", "before"),
        ],
    )
    async def test_bad_queries(self, client: httpx.AsyncClient, query: str, param: str) -> None:
        path = f"{RESPONSES}/{(await create(client))['id']}"
        answer = await client.get(f"{path}/input_items?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
        assert (await client.get(f"{path}?{query}")).status_code == 400


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"input": []}, "input"),
        ({"input": [1]}, "input.0"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.id"),
        ({"input": [{"type": "telepathy_call", "id": "tp_1"}]}, "input.0.type"),
        ({"input": [{"content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user"}]}, "input.0.content"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input.0.content.0.type",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]},
            "input.0.call_id",
        ),
        ({"input": "x" * 200}, "input"),
        ({"input": [{"role": "user", "content": "x"}] * 3000}, "input"),
        ({"max_output_tokens": 1000}, "max_output_tokens"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_tokens": 3}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"return_token_ids": True}, "return_token_ids"),
        ({"background": True, "store": False}, "store"),
        ({"truncation": "middle"}, "truncation"),
        ({"truncation": "auto", "input": "x" * 200}, "input"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"reasoning": {"effort": 1}}, "reasoning.effort"),
        ({"service_tier": "fast"}, "service_tier"),
        ({"include": ["reasoning.content"]}, "include.0"),
        ({"include": ["reasoning.encrypted_content"], "top_logprobs": 1}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"text": {"verbosity": "some"}}, "text.verbosity"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "x"}}}},
            "text.format.schema",
        ),
        ({"tools": [{"type": "telepathy"}]}, "tools.0.type"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"tools": [{"type": "function", "name": "two words"}]}, "tools.0.name"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"tools": [TOOL], "include": ["message.output_text.logprobs"]}, "include"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
        ),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    error = await error_of(client, fields)
    assert error["param"] == param
    assert "messages" not in error["message"]


async def test_another_model(client: httpx.AsyncClient) -> None:
    answer = await client.post(RESPONSES, json=body(model="gpt"))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_a_failure_within_a_stream(make_client: Any) -> None:
    runner = FakeRunner()
    client = await make_client(runner=runner)
    runner.fail_at_step = len(runner.steps) + 5
    *_, error, failed = await stream(client, max_output_tokens=50)
    assert error.name == "error"
    assert error.data["code"] == "engine_dead"
    assert failed.name == "response.failed"
    response = failed.data["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": error.data["message"]}
    assert (await client.get(f"{RESPONSES}/{response['id']}")).status_code == 404


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_client_that_leaves_frees_its_blocks(is_streamed: bool) -> None:
    async with serve(runner=FakeRunner(LIMITS)) as app:
        engine: Engine = app.state.context.engine
        await leave_after(app, RESPONSES, body(max_output_tokens=100, stream=is_streamed))
        assert engine.stats.registry.get_sample_value("glmserve_kv_blocks_used") == 0
        assert not app.state.responses._entries


class TestSdk:
    """openai's own client."""

    @asynccontextmanager
    async def sdk(self, *texts: str) -> AsyncIterator[openai.AsyncOpenAI]:
        async with (
            serve(runner=ScriptedRunner(*texts)) as app,
            client_of(app) as http,
            openai.AsyncOpenAI(
                base_url="http://test/v1", api_key="none", max_retries=0, http_client=http
            ) as client,
        ):
            yield client

    async def test_create_and_go_on(self) -> None:
        async with self.sdk("Hello.", "Well.") as client:
            first = await client.responses.create(model="fake", input="hi")
            assert first.output_text == "Hello."
            second = await client.responses.create(
                model="fake", input="And?", previous_response_id=first.id
            )
            assert second.output_text == "Well."
            assert (await client.responses.retrieve(second.id)) == second
            items = await client.responses.input_items.list(second.id, order="asc")
            assert len(items.data) == 3
            await client.responses.delete(second.id)
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(second.id)

    async def test_stream(self) -> None:
        text = f"I look. {CALL % 'x'}"
        async with self.sdk(text) as client:
            async with client.responses.stream(
                model="fake", input="hi", tools=[{**TOOL, "strict": True}]
            ) as events:
                deltas = [e.delta async for e in events if e.type == "response.output_text.delta"]
                final = await events.get_final_response()
            assert "".join(deltas) == final.output_text == "I look."
            (_, call) = final.output
            assert call.type == "function_call"

    async def test_parse(self) -> None:
        async with self.sdk('{"word": "x"}') as client:
            parsed = await client.responses.parse(model="fake", input="hi", text_format=LookUp)
            assert parsed.output_parsed == LookUp(word="x")
            more: list[Any] = [*parsed.output, {"role": "user", "content": "And?"}]
            again = await client.responses.parse(model="fake", input=more, text_format=LookUp)
            assert again.output_parsed == LookUp(word="x")

    async def test_the_round_of_a_tool(self) -> None:
        async with self.sdk(CALL % "x", "It is y.") as client:
            conversation: list[Any] = [{"role": "user", "content": "What is x?"}]
            asked = await client.responses.create(
                model="fake",
                input=conversation,
                tools=[{**TOOL, "strict": True}],
                store=False,
            )
            (call,) = asked.output
            assert call.type == "function_call"
            result = {"type": "function_call_output", "call_id": call.call_id, "output": "y"}
            answered = await client.responses.create(
                model="fake", input=[*conversation, call, result], store=False
            )
            assert answered.output_text == "It is y."


class LookUp(BaseModel):
    word: str
