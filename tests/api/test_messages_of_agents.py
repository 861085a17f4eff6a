"""What Claude Code and Anthropic's SDKs send to /v1/messages beside text and functions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from support import anthropic_schemas as official
from support.fakes import FakeRunner, expected_output
from support.scripted import ROOMY, ScriptedRunner

MESSAGES = "/v1/messages"
SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
TOOL = {"name": "look_up", "description": "Of words.", "input_schema": SCHEMA}
CALL = '<tool_call>{"name": "look_up", "arguments": {"word": "x"}}</tool_call>'
USER = {"role": "user", "content": "hi"}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [USER], "max_tokens": 12, "temperature": 0, **fields}


def expected_text(prompt: str) -> str:
    return bytes(expected_output([*prompt.encode()], 12)).decode()


async def create(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(MESSAGES, json=body(**fields))
    assert answer.status_code == 200, answer.text
    official.checked_message(answer.json())
    return answer.json()  # type: ignore[no-any-return]


def text_of(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"])


@pytest.fixture
async def roomy(make_client: Any) -> httpx.AsyncClient:
    return await make_client(runner=FakeRunner(ROOMY))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking": {"type": "adaptive", "display": "summarized"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"thinking": {"type": "some new type"}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"output_config": {"effort": "max", "task_budget": {"type": "tokens", "total": 9}}},
        {"cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}},
        {"metadata": {"user_id": "x" * 300}},
        {"speed": "fast", "inference_geo": "eu", "diagnostics": {"previous_message_id": "m"}},
        {"betas": ["context-1m"], "anthropic_version": "bedrock-2023-05-31"},
        {"fallbacks": "default", "container": "c", "mcp_servers": []},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_fields_that_ask_for_nothing(
    client: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    assert text_of(await create(client, **fields)) == expected_text("user:hi\n")


async def test_zhipuais_form_of_this_api(client: httpx.AsyncClient) -> None:
    path = "/api/anthropic/v1/messages"
    body = {"model": "fake", "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]}
    answer = await client.post(path, json=body)
    assert answer.json()["type"] == "message"
    assert answer.headers["request-id"]
    error = (await client.post(path, json={})).json()
    assert error["type"] == "error"


async def test_an_answer_goes_on_from_its_beginning(client: httpx.AsyncClient) -> None:
    """Prefill: the answer is what follows, as in chat completions that continue a message."""
    messages = [USER, {"role": "assistant", "content": "I s"}]
    message = await create(client, messages=messages)
    chat = await client.post("/v1/chat/completions", json=body(messages=messages))
    assert text_of(message) == chat.json()["choices"][0]["message"]["content"]
    assert text_of(message) != text_of(await create(client))


async def test_blocks_without_effect_in_the_history(roomy: httpx.AsyncClient) -> None:
    said = {"role": "assistant", "content": "b"}
    plain = await create(roomy, messages=[USER, said, USER])
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "b", "citations": [{"type": "char_location"}]},
    ]
    noted = await create(roomy, messages=[USER, {"role": "assistant", "content": blocks}, USER])
    assert text_of(noted) == text_of(plain)


async def test_documents_of_text_are_read(roomy: httpx.AsyncClient) -> None:
    document = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "Once."},
        "title": "A tale",
        "citations": {"enabled": False},
    }
    question = {"type": "text", "text": "What?"}
    message = await create(roomy, messages=[{"role": "user", "content": [document, question]}])
    assert text_of(message) == expected_text("user:A tale\nOnce.\nWhat?\n")


async def test_what_tools_of_anthropic_did_is_left_out_and_named(
    roomy: httpx.AsyncClient,
) -> None:
    blocks = [
        {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "1", "content": []},
        {"type": "text", "text": "b"},
    ]
    messages = [USER, {"role": "assistant", "content": blocks}, USER]
    answer = await roomy.post(MESSAGES, json=body(messages=messages))
    named = "server_tool_use, web_search_tool_result"
    assert answer.headers["X-Glmserve-Left-Out-Tools"] == named
    plain = [USER, {"role": "assistant", "content": "b"}, USER]
    assert text_of(answer.json()) == text_of(await create(roomy, messages=plain))


async def test_results_of_a_clients_own_searches_are_read(roomy: httpx.AsyncClient) -> None:
    call = {"type": "tool_use", "id": "1", "name": "look_up", "input": {}}
    found = {
        "type": "search_result",
        "source": "file.txt",
        "title": "A tale",
        "content": [{"type": "text", "text": "Once."}],
        "citations": {"enabled": True},
    }
    reference = {"type": "tool_reference", "tool_name": "look_up"}

    def conversation(content: Any) -> list[dict[str, Any]]:
        result = {"type": "tool_result", "tool_use_id": "1", "content": content}
        asked = {"role": "assistant", "content": [call]}
        return [USER, asked, {"role": "user", "content": [result]}]

    message = await create(roomy, messages=conversation([found, reference]))
    plain = await create(roomy, messages=conversation("A tale\nfile.txt\nOnce.\nlook_up\n"))
    assert text_of(message) == text_of(plain)


class TestTools:
    async def test_hints_of_functions(self, make_client: Any) -> None:
        hints = {
            "defer_loading": True,
            "eager_input_streaming": True,
            "input_examples": [{"word": "a"}],
            "allowed_callers": ["direct"],
            "cache_control": {"type": "ephemeral"},
        }
        client = await make_client(runner=ScriptedRunner(CALL))
        message = await create(client, tools=[TOOL | hints], max_tokens=100)
        assert message["content"][0]["input"] == {"word": "x"}

    async def test_those_of_anthropic_are_left_out_and_named(
        self, make_client: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = await make_client(runner=ScriptedRunner(CALL, CALL))
        tools = [
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
            {"type": "bash_20250124", "name": "bash"},
            TOOL,
        ]
        servers = [{"type": "url", "url": "https://example.org", "name": "x"}]
        for _ in range(2):
            answer = await client.post(
                MESSAGES, json=body(tools=tools, mcp_servers=servers, max_tokens=100)
            )
            assert answer.json()["content"][0]["name"] == "look_up"
            header = answer.headers["X-Glmserve-Left-Out-Tools"]
            assert header == "web_search_20250305, bash_20250124, mcp_servers"
        assert len(caplog.records) == 3


async def test_the_old_name_of_the_format(make_client: Any) -> None:
    client = await make_client(runner=FakeRunner(ROOMY))
    wanted = {"type": "json_schema", "schema": SCHEMA}
    old = await create(client, output_format=wanted, max_tokens=100)
    new = await create(client, output_config={"format": wanted}, max_tokens=100)
    assert text_of(old) == text_of(new)
    answer = await client.post(
        MESSAGES, json=body(output_format=wanted, output_config={"format": wanted})
    )
    assert answer.status_code == 400


async def test_threads_are_refused_so_that_the_sdk_goes_on_without(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post(MESSAGES, json=body(thread={"type": "create"}))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["details"]["error_code"] == "thread_unsupported_request"
    assert error["details"]["unsupported"] == ["thread"]
