"""/v1/messages and /v1/messages/count_tokens: Anthropic's shapes over the same engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx
import pytest
from pydantic import BaseModel

from glmserve.config import SchedulerConfig, ServerConfig
from glmserve.engine import Engine
from glmserve.request import SamplingParams
from support import anthropic_schemas as official
from support.disconnects import leave_after
from support.fake_server import serve, tenants
from support.fakes import LIMITS, FakeRunner, expected_output
from support.live_server import listening
from support.named_events import NamedEvent, named_events
from support.scripted import ROOMY, ScriptedRunner
from support.token_streams import next_tokens

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
CHAT = "/v1/chat/completions"

SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
TOOL = {"name": "look_up", "description": "Of words.", "input_schema": SCHEMA}
CALL = '<tool_call>{"name": "look_up", "arguments": {"word": "%s"}}</tool_call>'
CACHED = {"cache_control": {"type": "ephemeral"}}


def body(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hi"}]
    return {"model": "fake", "messages": messages, "max_tokens": 12, "temperature": 0, **fields}


def expected_text(prompt: str, num_tokens: int = 12) -> str:
    return bytes(expected_output([*prompt.encode()], num_tokens)).decode()


async def create(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(MESSAGES, json=body(**fields))
    assert answer.status_code == 200, answer.text
    official.checked_message(answer.json())
    return answer.json()  # type: ignore[no-any-return]


async def stream(client: httpx.AsyncClient, **fields: Any) -> list[NamedEvent]:
    events = named_events(await client.post(MESSAGES, json=body(stream=True, **fields)))
    for event in events:
        official.checked_event(*event)
    return events


def input_of(text: str) -> Any:
    """A call's arguments; JSON that is cut is none."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return {"INVALID_JSON": text}


def joined(events: list[NamedEvent]) -> dict[str, Any]:
    """The message that a stream tells of, as a client puts it together."""
    start, ping, *rest, end, stop = events
    message: dict[str, Any] = start.data["message"]
    assert message["content"] == []
    assert [e.name for e in (ping, end, stop)] == ["ping", "message_delta", "message_stop"]
    texts: list[str] = []
    for name, data in rest:
        assert data["index"] == len(texts) - (name != "content_block_start")
        if name == "content_block_start":
            texts.append("")
            message["content"].append(data["content_block"])
        elif name == "content_block_delta":
            delta = data["delta"]
            texts[-1] += delta["text"] if delta["type"] == "text_delta" else delta["partial_json"]
    for block, text in zip(message["content"], texts, strict=True):
        if block["type"] == "text":
            block["text"] = text
        else:
            block["input"] = input_of(text)
    return {**message, **end.data["delta"], "usage": end.data["usage"]}


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    content = [{k: v for k, v in block.items() if k != "id"} for block in message["content"]]
    usage = {"output_tokens": message["usage"]["output_tokens"]}
    return {**message, "id": "", "content": content, "usage": usage}


def error_of(answer: httpx.Response) -> tuple[str, str]:
    error = official.checked_error(answer.json())
    assert error.request_id == answer.headers["x-request-id"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    return error.error.type, error.error.message


@pytest.fixture
async def roomy(make_client: Any) -> httpx.AsyncClient:
    return await make_client(runner=FakeRunner(ROOMY))  # type: ignore[no-any-return]


async def test_a_message(client: httpx.AsyncClient) -> None:
    message = await create(client, system="Be.")
    assert message == {
        "id": message["id"],
        "type": "message",
        "role": "assistant",
        "model": "fake",
        "content": [{"type": "text", "text": expected_text("system:Be.\nuser:hi\n")}],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 19,
            "cache_read_input_tokens": 0,
            "output_tokens": 12,
            "cache_creation_input_tokens": 0,
        },
    }
    assert message["id"].startswith("msg_")


async def test_the_sdk_finds_the_request_id(client: httpx.AsyncClient) -> None:
    headers = {"X-Request-Id": "abc-1"}
    for wanted in (body(), body(stream=True), {}):
        answer = await client.post(MESSAGES, json=wanted, headers=headers)
        assert answer.headers["request-id"] == answer.headers["x-request-id"] == "abc-1"


async def test_input_tokens_are_those_that_were_not_cached(client: httpx.AsyncClient) -> None:
    await create(client, system="Be brief.")
    usage = (await create(client, system="Be brief."))["usage"]
    assert usage["cache_read_input_tokens"] == 24
    assert usage["input_tokens"] == 1
    start, *_ = await stream(client, system="Be brief.")
    assert start.data["message"]["usage"]["cache_read_input_tokens"] == 24


SHAPES: dict[str, dict[str, Any]] = {
    "text": {},
    "stopped": {"stop_sequences": [chr(i) for i in range(97, 110)]},
    "tools": {"tools": [TOOL]},
    "call": {"tools": [TOOL], "tool_choice": {"type": "any"}},
    "one call": {
        "tools": [TOOL],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    },
    "named call": {
        "tools": [TOOL, {**TOOL, "name": "g"}],
        "tool_choice": {"type": "tool", "name": "look_up"},
    },
    "no call": {"tools": [TOOL], "tool_choice": {"type": "none"}},
    "schema": {"output_config": {"format": {"type": "json_schema", "schema": {"enum": [7]}}}},
    "without effect": {
        "system": [{"type": "text", "text": "Be.", **CACHED}],
        "tools": [{**TOOL, "type": "custom", **CACHED}],
        "tool_choice": {"type": "auto"},
        "metadata": {"user_id": "me"},
        "service_tier": "standard_only",
        "thinking": {"type": "disabled"},
        "top_k": 0,
        "top_p": 1.0,
        **CACHED,
    },
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_a_stream_tells_what_the_whole_message_says(
    roomy: httpx.AsyncClient, shape: dict[str, Any]
) -> None:
    shape = {"max_tokens": 150, **shape}
    whole = await create(roomy, **shape)
    told = joined(await stream(roomy, **shape))
    assert without_ids(told) == without_ids(whole)


async def test_a_stop_sequence_is_named(client: httpx.AsyncClient) -> None:
    text = expected_text("user:hi\n")
    message = await create(client, stop_sequences=["never", text[4:7]])
    assert message["content"] == [{"type": "text", "text": text[: text.index(text[4:7])]}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", text[4:7])


async def test_blocks_come_in_the_order_of_their_text(make_client: Any) -> None:
    text = f"First. {CALL % 'a'}\n{CALL % 'b'} Then."
    client = await make_client(runner=ScriptedRunner(text))
    whole = await create(client, tools=[TOOL], max_tokens=200)
    assert whole["stop_reason"] == "tool_use"
    first, call, other, then = whole["content"]
    assert first == {"type": "text", "text": "First."}
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "look_up", {"word": "a"})
    assert call["id"].startswith("toolu_")
    assert call["id"] != other["id"]
    assert other["input"] == {"word": "b"}
    assert then == {"type": "text", "text": "Then."}
    told = joined(await stream(client, tools=[TOOL], max_tokens=200))
    assert without_ids(told) == without_ids(whole)


async def test_nothing_said_is_no_content(make_client: Any) -> None:
    client = await make_client(runner=ScriptedRunner(""))
    message = await create(client)
    assert (message["content"], message["stop_reason"]) == ([], "end_turn")
    assert joined(await stream(client))["content"] == []


async def test_a_call_that_is_cut_keeps_its_text(make_client: Any) -> None:
    client = await make_client(runner=ScriptedRunner(CALL % "abc"))
    message = await create(client, tools=[TOOL], max_tokens=56)
    (call,) = message["content"]
    assert message["stop_reason"] == "max_tokens"
    assert '{"word": "abc"}'.startswith(call["input"]["INVALID_JSON"])


CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "a", **CACHED}]},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "b"},
            {"type": "tool_use", "id": "1", "name": "look_up", "input": {}},
            {"type": "tool_use", "id": "2", "name": "look_up", "input": {"word": "x"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "2", "content": "two"},
            {
                "type": "tool_result",
                "tool_use_id": "1",
                "content": [{"type": "text", "text": "none"}],
                "is_error": True,
            },
            {"type": "text", "text": "c"},
            {"type": "text", "text": "d"},
        ],
    },
    {"role": "assistant", "content": "e"},
    {"role": "system", "content": "f"},
    {"role": "user", "content": "g"},
]

SAME_CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be."},
    {"role": "system", "content": "Brief."},
    {"role": "user", "content": "a"},
    {
        "role": "assistant",
        "content": "b",
        "tool_calls": [
            {"id": "1", "function": {"name": "look_up", "arguments": "{}"}},
            {"id": "2", "function": {"name": "look_up", "arguments": '{"word":"x"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "2", "content": "two"},
    {"role": "tool", "tool_call_id": "1", "content": "Error: none"},
    {"role": "user", "content": "cd"},
    {"role": "assistant", "content": "e"},
    {"role": "system", "content": "f"},
    {"role": "user", "content": "g"},
]


async def test_the_model_reads_the_same_as_from_chat_completions(
    roomy: httpx.AsyncClient,
) -> None:
    """What FakeRunner says depends on every token it reads."""
    system = [{"type": "text", "text": text} for text in ("Be.", "Brief.")]
    count = {"model": "fake", "messages": CONVERSATION, "system": system}
    counted = official.checked_count((await roomy.post(COUNT, json=count)).json())
    message = await create(roomy, messages=CONVERSATION, system=system)
    chat = {"model": "fake", "messages": SAME_CHAT, "temperature": 0, "max_tokens": 12}
    answer = (await roomy.post(CHAT, json=chat)).json()
    assert message["content"][0]["text"] == answer["choices"][0]["message"]["content"]
    assert message["usage"]["input_tokens"] == answer["usage"]["prompt_tokens"]
    assert counted.input_tokens == answer["usage"]["prompt_tokens"]


async def test_tools_are_counted(client: httpx.AsyncClient) -> None:
    count = {"model": "fake", "messages": body()["messages"]}
    alone = (await client.post(COUNT, json=count)).json()["input_tokens"]
    assert alone == len("user:hi\n")
    with_tool = (await client.post(COUNT, json={**count, "tools": [TOOL]})).json()["input_tokens"]
    assert with_tool > alone + len("look_up")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages.0.content.0.type",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "document", "source": {"type": "url"}}]}
                ]
            },
            "messages.0.content.0.source.type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking"}]}]},
            "messages.0.content.0.type",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}
                ]
            },
            "no tool_use with the id '1'",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "1",
                                "content": [{"type": "image", "source": {}}],
                            }
                        ],
                    }
                ]
            },
            "messages.0.content.0.content.0.type",
        ),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop_sequences": [""]}, "stop_sequences.0"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"thinking": True}, "thinking"),
        ({"output_config": {"effort": 1}}, "output_config.effort"),
        ({"compaction": {}}, "compaction"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "x"}}}},
            "output_config.format.schema",
        ),
        ({"tools": [{"type": "telepathy_20250305", "name": "w"}]}, "tools.0.type"),
        ({"tools": [TOOL, TOOL]}, "two tools have the same name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "'g'"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"n": 2}, "'n' is not supported"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], named: str
) -> None:
    answer = await client.post(MESSAGES, json=body(**fields))
    assert answer.status_code == 400
    kind, message = error_of(answer)
    assert kind == "invalid_request_error"
    assert named in message
    assert "response_format" not in message


class TestErrors:
    """Whoever finds an error, it is in Anthropic's shape here and in OpenAI's elsewhere."""

    async def test_another_model(self, client: httpx.AsyncClient) -> None:
        for path, wanted in ((MESSAGES, body(model="claude")), (COUNT, {**body(model="claude")})):
            if path == COUNT:
                wanted = {"model": "claude", "messages": wanted["messages"]}
            answer = await client.post(path, json=wanted)
            assert answer.status_code == 404
            assert error_of(answer)[0] == "not_found_error"

    async def test_what_the_router_refuses(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(MESSAGES)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert error_of(answer)[0] == "invalid_request_error"
        answer = await client.post(f"{MESSAGES}/batches", json={})
        assert answer.status_code == 404
        assert error_of(answer)[0] == "not_found_error"

    async def test_no_key(self, make_client: Any) -> None:
        config = ServerConfig(served_model_name="fake", api_keys=tenants("open-sesame"))
        client = await make_client(config=config)
        answer = await client.post(MESSAGES, json=body())
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert error_of(answer)[0] == "authentication_error"
        key = {"x-api-key": "open-sesame"}
        assert (await client.post(MESSAGES, json=body(), headers=key)).status_code == 200

    async def test_a_huge_body(self, make_client: Any) -> None:
        config = ServerConfig(served_model_name="fake", max_body_size=100)
        client = await make_client(config=config)
        answer = await client.post(MESSAGES, json=body(system="x" * 100))
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "request_too_large"  # the SDK has no type for it

    async def test_a_full_queue(self, make_client: Any) -> None:
        scheduler = SchedulerConfig(max_batch_size=1, queue_size=1)
        client = await make_client(scheduler=scheduler)
        engine: Engine = client._transport.app.state.context.engine
        streams = [engine.submit([1], SamplingParams(max_tokens=100)) for _ in range(2)]
        await next_tokens(streams[0])
        answer = await client.post(MESSAGES, json=body())
        assert answer.status_code == 429
        assert answer.headers["retry-after"]
        assert error_of(answer)[0] == "rate_limit_error"
        for waiting in streams:
            waiting.close()

    async def test_while_loading(self, make_client: Any) -> None:
        client = await make_client(start=False)
        answer = await client.post(MESSAGES, json=body())
        assert answer.status_code == 503
        assert error_of(answer)[0] == "overloaded_error"

    async def test_a_bug(self, client: httpx.AsyncClient, monkeypatch: Any, caplog: Any) -> None:
        context = client._transport.app.state.context  # type: ignore[attr-defined]
        monkeypatch.setattr(context, "find_model", None)
        answer = await client.post(MESSAGES, json=body())
        assert answer.status_code == 500
        assert error_of(answer) == ("api_error", "internal error")

    async def test_others_keep_their_shape(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/messages-of-others")
        assert answer.json().keys() == {"error"}
        assert "request-id" not in answer.headers

    async def test_a_failure_within_a_stream(self, make_client: Any) -> None:
        runner = FakeRunner()
        client = await make_client(runner=runner)
        runner.fail_at_step = len(runner.steps) + 5
        *events, error = await stream(client, max_tokens=50)
        assert events[0].name == "message_start"
        assert error.name == "error"
        assert error.data["error"]["type"] == "api_error"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_client_that_leaves_frees_its_blocks(is_streamed: bool) -> None:
    async with serve(runner=FakeRunner(LIMITS)) as app:
        engine: Engine = app.state.context.engine
        await leave_after(app, MESSAGES, body(max_tokens=100, stream=is_streamed))
        assert engine.stats.registry.get_sample_value("glmserve_kv_blocks_used") == 0


class LookUp(BaseModel):
    word: str


class TestSdk:
    """Anthropic's own client."""

    @asynccontextmanager
    async def sdk(self, *texts: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
        async with (
            serve(runner=ScriptedRunner(*texts)) as app,
            listening(app) as port,
            anthropic.AsyncAnthropic(
                base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0
            ) as client,
        ):
            yield client

    async def test_create_and_count(self) -> None:
        hi: list[Any] = [{"role": "user", "content": "hi"}]
        async with self.sdk("Hello.") as client:
            message = await client.messages.create(model="fake", max_tokens=20, messages=hi)
            assert message.content[0].type == "text"
            assert message.content[0].text == "Hello."
            assert message.stop_reason == "end_turn"
            count = await client.messages.count_tokens(model="fake", messages=hi)
            assert count.input_tokens == message.usage.input_tokens

    async def test_the_round_of_a_tool(self) -> None:
        conversation: list[Any] = [{"role": "user", "content": "What is x?"}]
        wanted: dict[str, Any] = {"model": "fake", "max_tokens": 100, "tools": [TOOL]}
        async with self.sdk(f"I look. {CALL % 'x'}", "It is y.") as client:
            async with client.messages.stream(messages=conversation, **wanted) as events:
                text = "".join([text async for text in events.text_stream])
                message = await events.get_final_message()
            assert text == "I look."
            assert message.stop_reason == "tool_use"
            call = message.content[1]
            assert call.type == "tool_use"
            assert call.input == {"word": "x"}
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "y"}
            conversation += [
                {"role": "assistant", "content": message.content},
                {"role": "user", "content": [result]},
            ]
            answer = await client.messages.create(messages=conversation, **wanted)
            assert answer.content[0].text == "It is y."

    async def test_parse(self) -> None:
        hi: list[Any] = [{"role": "user", "content": "hi"}]
        async with self.sdk('{"word": "x"}') as client:
            parsed = await client.messages.parse(
                model="fake", max_tokens=50, messages=hi, output_format=LookUp
            )
            assert parsed.parsed_output == LookUp(word="x")

    async def test_errors(self) -> None:
        hi: list[Any] = [{"role": "user", "content": "hi"}]
        async with self.sdk("x") as client:
            with pytest.raises(anthropic.NotFoundError):
                await client.messages.create(model="claude", max_tokens=20, messages=hi)
            with pytest.raises(anthropic.BadRequestError, match="temperature"):
                await client.messages.create(
                    model="fake", max_tokens=20, messages=hi, extra_body={"temperature": 3}
                )
