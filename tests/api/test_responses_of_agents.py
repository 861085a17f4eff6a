"""What agents send to /v1/responses: other servers' tools, references, truncation, background."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types.responses import Response

from glmserve.api.openai.responses.background import BackgroundResponses
from glmserve.config import ServerConfig
from glmserve.contract.step import MaskSource, StepInput, StepOutput, no_masks
from support import openai_schemas
from support.fake_server import client_of, serve, tenants
from support.fakes import FakeRunner, expected_output
from support.named_events import named_events
from support.scripted import ROOMY, ScriptedRunner

RESPONSES = "/v1/responses"
TOOL = {
    "type": "function",
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    "strict": False,
}
CALL = '<tool_call>{"name": "%s", "arguments": {"word": "x"}}</tool_call>'


@pytest.fixture
async def roomy(make_client: Any) -> httpx.AsyncClient:
    return await make_client(runner=FakeRunner(ROOMY))  # type: ignore[no-any-return]


async def create(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    body = {"input": "hi", "max_output_tokens": 12, "temperature": 0, **fields}
    answer = await client.post(RESPONSES, json=body)
    assert answer.status_code == 200, answer.text
    openai_schemas.checked(Response, answer.json(), openai_schemas.RESPONSE_EXTENSIONS)
    return answer.json()  # type: ignore[no-any-return]


def text_of(response: dict[str, Any]) -> str:
    return response["output"][0]["content"][0]["text"]  # type: ignore[no-any-return]


def expected_text(prompt: str) -> str:
    return bytes(expected_output([*prompt.encode()], 12)).decode()


async def test_fields_that_ask_for_nothing(client: httpx.AsyncClient) -> None:
    """What Codex CLI and OpenAI's SDKs send with every request; the answer is the same."""
    plain = await create(client, model="fake")
    response = await create(
        client,
        client_metadata={"session": "1"},
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "medium", "summary": "auto", "context": "all_turns"},
        text={"verbosity": "low"},
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        service_tier="flex",
        max_tool_calls=3,
        context_management=[{"type": "compaction", "compact_threshold": 1000}],
        parallel_tool_calls=True,
        stream_options=None,
    )
    assert text_of(response) == text_of(plain)
    assert response["model"] == "fake"
    assert response["reasoning"] == {"effort": "medium", "summary": "auto"}
    assert response["text"]["verbosity"] == "low"
    assert response["max_tool_calls"] == 3
    assert response["store"] is True


OPEN_RESPONSES = frozenset(
    "id object created_at completed_at status incomplete_details model previous_response_id "
    "instructions output error tools tool_choice truncation parallel_tool_calls text top_p "
    "presence_penalty frequency_penalty top_logprobs temperature reasoning usage "
    "max_output_tokens max_tool_calls store background service_tier metadata safety_identifier "
    "prompt_cache_key".split()
)
"""The required fields of a response in the Open Responses specification of 2026-04-24."""


async def test_a_response_has_the_fields_of_open_responses(client: httpx.AsyncClient) -> None:
    shape = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    response = await create(client, tools=[TOOL], tool_choice="none", text={"format": shape})
    assert response.keys() >= OPEN_RESPONSES
    (tool,) = response["tools"]
    assert tool.keys() >= {"type", "name", "description", "parameters", "strict"}
    form = response["text"]["format"]
    assert form.keys() >= {"type", "name", "description", "schema", "strict"}


async def test_penalties_are_given_back(client: httpx.AsyncClient) -> None:
    response = await create(client, presence_penalty=0.5, frequency_penalty=0.25, store=False)
    assert (response["presence_penalty"], response["frequency_penalty"]) == (0.5, 0.25)
    assert response["store"] is False


async def test_reasoning_and_notes_in_the_history_change_nothing(
    roomy: httpx.AsyncClient,
) -> None:
    said = {"type": "message", "role": "assistant", "content": "b"}
    plain = await create(
        roomy, input=[{"role": "user", "content": "a"}, said, {"role": "user", "content": "c"}]
    )
    part = {"type": "output_text", "text": "b", "annotations": [{"type": "url_citation"}]}
    noted = await create(
        roomy,
        input=[
            {"role": "user", "content": "a"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            said | {"content": [part], "phase": "final_answer", "id": "msg_1"},
            {"role": "user", "content": [{"type": "input_text", "text": "c"}]},
        ],
    )
    assert text_of(noted) == text_of(plain)


class TestToolsOfOtherServers:
    async def test_they_are_left_out_and_named(
        self, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        tools = [
            {"type": "web_search", "external_web_access": True},
            {"type": "local_shell"},
            {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
            {"type": "web_search"},
        ]
        for _ in range(2):
            answer = await client.post(RESPONSES, json={"input": "hi", "tools": tools})
            assert answer.status_code == 200, answer.text
            assert answer.headers["X-Glmserve-Left-Out-Tools"] == "web_search, local_shell, custom"
            assert answer.json()["tools"] == []
        assert len(caplog.records) == 3

    async def test_functions_beside_them_are_offered(self, make_client: Any) -> None:
        client = await make_client(runner=ScriptedRunner(CALL % "look_up"))
        response = await create(client, tools=[{"type": "web_search"}, TOOL], max_output_tokens=100)
        assert [tool["name"] for tool in response["tools"]] == ["look_up"]
        assert response["output"][0]["name"] == "look_up"

    async def test_a_function_in_a_namespace_is_called_by_its_own_name(
        self, make_client: Any
    ) -> None:
        spaces = [
            {"type": "namespace", "name": name, "description": "Words.", "tools": [TOOL]}
            for name in ("mcp__a__", "mcp__b")
        ]
        shown = ["mcp__a__look_up", "mcp__b__look_up"]
        client = await make_client(runner=ScriptedRunner(*(CALL % name for name in shown)))
        for name in ("mcp__a__", "mcp__b"):
            response = await create(client, tools=spaces, max_output_tokens=100)
            (call,) = response["output"]
            assert (call["name"], call["namespace"]) == ("look_up", name)

    async def test_a_call_in_a_namespace_is_read_as_it_was_written(
        self, roomy: httpx.AsyncClient
    ) -> None:
        space = {"type": "namespace", "name": "words", "tools": [TOOL]}
        call = {"type": "function_call", "call_id": "1", "name": "look_up", "arguments": "{}"}
        rest = [
            {"type": "function_call_output", "call_id": "1", "output": "x"},
            {"role": "user", "content": "c"},
        ]
        flat = await create(roomy, tools=[TOOL], input=[call, *rest])
        spaced = await create(roomy, tools=[space], input=[call | {"namespace": "words"}, *rest])
        assert spaced["output"][0]["content"] == flat["output"][0]["content"]


async def test_calls_of_custom_tools_are_read_as_calls(roomy: httpx.AsyncClient) -> None:
    flat = [
        {"role": "user", "content": "a"},
        {"type": "function_call", "call_id": "1", "name": "patch", "arguments": '{"input":"x"}'},
        {"type": "function_call_output", "call_id": "1", "output": "done"},
        {"role": "user", "content": "b"},
    ]
    call = {"type": "custom_tool_call", "call_id": "1", "name": "patch", "input": "x"}
    result = {"type": "custom_tool_call_output", "call_id": "1", "output": "done"}
    custom = await create(roomy, input=[flat[0], call, result, flat[3]])
    assert text_of(custom) == text_of(await create(roomy, input=flat))


async def test_traces_of_other_servers_tools_are_left_out_and_named(
    roomy: httpx.AsyncClient,
) -> None:
    ends = [{"role": "user", "content": text} for text in ("a", "b")]
    search = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "q"}}
    body = {"input": [ends[0], search, ends[1]], "max_output_tokens": 12, "temperature": 0}
    answer = await roomy.post(RESPONSES, json=body)
    assert answer.headers["X-Glmserve-Left-Out-Tools"] == "web_search_call"
    assert text_of(answer.json()) == text_of(await create(roomy, input=ends))


async def test_parts_are_texts_whatever_their_type(roomy: httpx.AsyncClient) -> None:
    def conversation(asked: str, said: str) -> list[dict[str, Any]]:
        return [
            {"role": "user", "content": [{"type": asked, "text": "a"}]},
            {"role": "assistant", "content": [{"type": said, "text": "b"}]},
            {"role": "user", "content": "c"},
        ]

    usual = await create(roomy, input=conversation("input_text", "output_text"))
    other = await create(roomy, input=conversation("output_text", "input_text"))
    assert text_of(other) == text_of(usual)


class TestReferences:
    async def test_an_item_may_be_named_in_place_of_itself(self, roomy: httpx.AsyncClient) -> None:
        """The AI SDK's second turn."""
        first = await create(roomy)
        reference = {"type": "item_reference", "id": first["output"][0]["id"]}
        user = [{"role": "user", "content": text} for text in ("hi", "more")]
        second = await create(roomy, input=[user[0], reference, user[1]])
        assert text_of(second) == expected_text(f"user:hi\nassistant:{text_of(first)}\nuser:more\n")
        third = await create(roomy, input=[user[0], {"id": reference["id"]}, user[1]])
        assert text_of(third) == text_of(second)

    async def test_an_item_is_found_as_long_as_a_response_has_it(self, make_client: Any) -> None:
        config = ServerConfig(served_model_name="fake", response_store_size=1)
        client = await make_client(runner=FakeRunner(ROOMY), config=config)
        first = await create(client)
        item = first["output"][0]["id"]
        reference = [{"type": "item_reference", "id": item}, {"role": "user", "content": "a"}]
        second = await create(client, input=reference)  # the first is forgotten now
        third = await create(client, input=reference)
        assert text_of(third) == text_of(second)
        await create(client)
        answer = await client.post(RESPONSES, json={"input": reference})
        assert answer.json()["error"]["param"] == "input.0.id"

    async def test_items_are_their_owners(self, make_client: Any) -> None:
        config = ServerConfig(served_model_name="fake", api_keys=tenants("one", "two"))
        client = await make_client(config=config)
        client.headers["Authorization"] = "Bearer one"
        reference = {"type": "item_reference", "id": (await create(client))["output"][0]["id"]}
        client.headers["Authorization"] = "Bearer two"
        answer = await client.post(RESPONSES, json={"input": [reference]})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "input.0.id"


class TestTruncation:
    async def test_the_oldest_turns_are_left_out(self, client: httpx.AsyncClient) -> None:
        turns = [
            {"role": role, "content": f"{n:02} " + "x" * 10}
            for n in range(20)
            for role in ("user", "assistant")
        ]
        input_ = [{"role": "system", "content": "Be."}, *turns, {"role": "user", "content": "now"}]
        answer = await client.post(RESPONSES, json={"input": input_, "max_output_tokens": 12})
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        response = await create(client, input=input_, truncation="auto")
        assert response["truncation"] == "auto"
        prompts = [
            "system:Be.\n" + "".join(f"{t['role']}:{t['content']}\n" for t in turns[start:])
            for start in range(0, len(turns), 2)
        ]
        fitting = [p for p in prompts if len(p + "user:now\n") + 12 <= 128]
        assert text_of(response) == expected_text(f"{fitting[0]}user:now\n")

    async def test_nothing_is_left_out_of_what_fits(self, client: httpx.AsyncClient) -> None:
        assert text_of(await create(client, truncation="auto")) == text_of(await create(client))


class TestInputTokens:
    async def test_it_counts_what_the_answer_counts(self, roomy: httpx.AsyncClient) -> None:
        first = await create(roomy, tools=[TOOL])
        body = {"input": "more", "previous_response_id": first["id"], "tools": [TOOL]}
        counted = (await roomy.post(f"{RESPONSES}/input_tokens", json=body)).json()
        answered = await create(roomy, **body)
        assert counted == {
            "object": "response.input_tokens",
            "input_tokens": answered["usage"]["input_tokens"],
        }

    async def test_another_model_is_refused(self, client: httpx.AsyncClient) -> None:
        body = {"model": "gpt", "input": "hi"}
        assert (await client.post(f"{RESPONSES}/input_tokens", json=body)).status_code == 404

    async def test_errors_name_this_apis_fields(self, client: httpx.AsyncClient) -> None:
        result = {"type": "function_call_output", "call_id": "1", "output": "x"}
        answer = await client.post(f"{RESPONSES}/input_tokens", json={"input": [result]})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "input.0.call_id"


async def until(client: httpx.AsyncClient, response_id: str, *statuses: str) -> dict[str, Any]:
    while True:
        found = (await client.get(f"{RESPONSES}/{response_id}")).json()
        openai_schemas.checked(Response, found, openai_schemas.RESPONSE_EXTENSIONS)
        if found["status"] in statuses:
            return found  # type: ignore[no-any-return]
        await asyncio.sleep(0.005)


class _SlowRunner(FakeRunner):
    """Takes ten seconds for a thousand tokens."""

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        time.sleep(0.01)
        return super().execute(step, masks)


class TestBackground:
    async def test_the_answer_is_fetched_later(self, client: httpx.AsyncClient) -> None:
        begun = await create(client, background=True)
        assert (begun["status"], begun["background"], begun["output"]) == ("queued", True, [])
        found = await until(client, begun["id"], "incomplete")
        assert text_of(found) == text_of(await create(client))
        path = f"{RESPONSES}/{begun['id']}/cancel"
        assert (await client.post(path)).json() == found  # it has ended: nothing to stop

    async def test_it_can_be_cancelled(self) -> None:
        async with serve(_SlowRunner(ROOMY)) as app, client_of(app) as client:
            begun = await create(client, background=True, max_output_tokens=1000)
            path = f"{RESPONSES}/{begun['id']}"
            cancelled = (await client.post(f"{path}/cancel")).json()
            assert cancelled["status"] == "cancelled"
            assert (await client.get(path)).json() == cancelled
            metrics = (await client.get("/metrics")).text
            assert 'glmserve_requests_running{model_name="fake"} 0.0' in metrics

    async def test_it_can_be_deleted(self) -> None:
        async with serve(_SlowRunner(ROOMY)) as app, client_of(app) as client:
            begun = await create(client, background=True, max_output_tokens=1000)
            path = f"{RESPONSES}/{begun['id']}"
            assert (await client.delete(path)).json()["deleted"]
            assert (await client.get(path)).status_code == 404

    async def test_a_refusal_is_answered_at_once(self, client: httpx.AsyncClient) -> None:
        body = {"input": "x" * 200, "background": True}
        assert (await client.post(RESPONSES, json=body)).status_code == 400

    async def test_others_cannot_be_cancelled(self, client: httpx.AsyncClient) -> None:
        response = await create(client)
        answer = await client.post(f"{RESPONSES}/{response['id']}/cancel")
        assert answer.status_code == 400
        assert (await client.post(f"{RESPONSES}/resp_0/cancel")).status_code == 404

    async def test_with_a_journal(self, tmp_path: Path) -> None:
        async with serve(journal=tmp_path) as app, client_of(app) as client:
            begun = await create(client, background=True)
            found = await until(client, begun["id"], "incomplete")
            assert found["output"]

    async def test_left_out_tools_are_named(self, client: httpx.AsyncClient) -> None:
        body = {"input": "hi", "background": True, "tools": [{"type": "web_search"}]}
        answer = await client.post(RESPONSES, json=body)
        assert answer.headers["X-Glmserve-Left-Out-Tools"] == "web_search"

    async def test_events(self, client: httpx.AsyncClient) -> None:
        body = {"input": "hi", "background": True, "stream": True, "tools": [{"type": "mcp"}]}
        answer = await client.post(RESPONSES, json=body)
        assert answer.headers["X-Glmserve-Left-Out-Tools"] == "mcp"
        events = [data for _, data in named_events(answer)]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[0]["response"]["background"] is True
        assert events[-1]["type"] == "response.incomplete"
        path = f"{RESPONSES}/{events[0]['response']['id']}"
        assert (await client.get(path)).json() == events[-1]["response"]
        assert (await client.get(path, params={"stream": "true"})).text == answer.text
        rest = await client.get(path, params={"stream": "true", "starting_after": "2"})
        assert [data for _, data in named_events(rest)] == events[3:]
        none = await client.get(path, params={"stream": "true", "starting_after": "9999"})
        assert none.text == ""
        assert (await client.delete(path)).status_code == 200
        assert (await client.get(path, params={"stream": "true"})).status_code == 404

    async def test_events_while_it_is_generated(self) -> None:
        async with serve(_SlowRunner(ROOMY)) as app, client_of(app) as client:
            background: BackgroundResponses = app.state.background
            body = {"input": "hi", "background": True, "stream": True, "max_output_tokens": 1000}
            asking = asyncio.create_task(client.post(RESPONSES, json=body))
            while not any(one.log and one.log.size for one in background._running.values()):
                await asyncio.sleep(0.005)
            asking.cancel()  # the client leaves, and comes back
            ((_, response_id),) = background._running
            path = f"{RESPONSES}/{response_id}"
            following = asyncio.create_task(client.get(path, params={"stream": "true"}))
            await until(client, response_id, "in_progress")
            cancelled = (await client.post(f"{path}/cancel")).json()
            events = [data for _, data in named_events(await following)]
            assert events[0]["type"] == "response.created"
            assert events[-1]["type"] == "response.output_text.delta"
            assert (await client.get(path)).json() == cancelled

    async def test_events_that_do_not_exist(self, client: httpx.AsyncClient) -> None:
        begun = await create(client, background=True)
        await until(client, begun["id"], "incomplete")
        for query, param in (
            ({"stream": "true"}, "stream"),
            ({"stream": "yes"}, "stream"),
            ({"starting_after": "1"}, "starting_after"),
            ({"stream": "true", "starting_after": "-1"}, "starting_after"),
        ):
            answer = await client.get(f"{RESPONSES}/{begun['id']}", params=query)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    async def test_old_events_are_forgotten(self) -> None:
        async with serve() as app, client_of(app) as client:
            app.state.background = BackgroundResponses(max_log_bytes=1)
            body = {"input": "hi", "background": True, "stream": True}
            answer = await client.post(RESPONSES, json=body)
            path = f"{RESPONSES}/{named_events(answer)[0].data['response']['id']}"
            assert (await client.get(path, params={"stream": "true"})).status_code == 400
            assert (await client.get(path)).status_code == 200
