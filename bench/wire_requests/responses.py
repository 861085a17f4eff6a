"""/v1/responses"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wire_requests.refused_fields import GENERATION
from wire_requests.request import (
    PERSON_SCHEMA,
    REMOTE_SCHEMA,
    RESPONSES,
    WEATHER_SCHEMA,
    WireRequest,
    get,
    refusals,
    response,
)

LOGPROBS = "message.output_text.logprobs"
WEATHER = {"type": "function", "name": "get_weather", "parameters": WEATHER_SCHEMA}
STRICT = {**WEATHER, "strict": True}
TIME = {"type": "function", "name": "get_time"}
NAMED = {"type": "function", "name": "get_weather"}
CALL = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city": "Paris"}',
}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
UNKNOWN = "/v1/responses/resp_unknown"


def requests() -> Iterator[WireRequest]:
    yield from _answers()
    yield from _tools()
    yield from _stored()
    yield from refusals(response, [*GENERATION, *_REFUSED])


def _answers() -> Iterator[WireRequest]:
    parts = [{"type": "input_text", "text": "Hello! "}, {"type": "input_text", "text": "Who?"}]
    said = [{"type": "output_text", "text": "A model."}]
    turns = [
        {"role": "user", "content": "Hello!"},
        {"type": "message", "id": "msg_own", "role": "assistant", "content": said},
        {"role": "user", "content": parts},
    ]
    schema = {"type": "json_schema", "name": "person", "schema": PERSON_SCHEMA}
    yield response("whole")
    yield response("stream", stream=True)
    yield response("turns", input=turns, instructions="Be brief.")
    yield response("turns stream", input=turns, instructions="Be brief.", stream=True)
    yield response("logprobs", include=[LOGPROBS], top_logprobs=2)
    yield response("logprobs stream", include=[LOGPROBS], stream=True)
    yield response("schema", text={"format": schema}, max_output_tokens=24)
    yield response("schema stream", text={"format": schema}, max_output_tokens=24, stream=True)
    yield response("json", text={"format": {"type": "json_object"}}, max_output_tokens=24)
    yield response("stop", stop="e", max_output_tokens=32)
    yield response("stop stream", stop="e", max_output_tokens=32, stream=True)
    yield response("regex", structured_outputs={"regex": "[ab]{3}"})
    yield response("sampled", temperature=1, top_p=0.9, seed=3)
    yield response(
        "told again",
        metadata={"a": "b"},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        truncation="disabled",
        reasoning={"effort": "none"},
        background=False,
        service_tier="default",
    )


def _tools() -> Iterator[WireRequest]:
    offered = {"tools": [WEATHER, TIME], "max_output_tokens": 48}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [NAMED]}
    yield response("tools", **offered)
    yield response("tools required", **offered, tool_choice="required")
    yield response("tools required stream", **offered, tool_choice="required", stream=True)
    yield response("tools named", **offered, tool_choice=NAMED, parallel_tool_calls=False)
    yield response("tools allowed stream", **offered, tool_choice=allowed, stream=True)
    yield response("tools none logprobs", **offered, tool_choice="none", include=[LOGPROBS])
    yield response("tools strict", tools=[STRICT], max_output_tokens=48)
    yield response("tools called", input=[{"role": "user", "content": "Hi"}, CALL, RESULT])
    yield response("tools called badly", input=[CALL | {"arguments": "{"}, RESULT])


def _stored() -> Iterator[WireRequest]:
    first, items = "{{id response whole}}", "{{id response turns}}"
    yield response("next", previous_response_id=first, input="And then?")
    yield response("next stream", previous_response_id=first, input="And then?", stream=True)
    yield response("not stored", store=False)
    yield get("response get", f"{RESPONSES}/{first}")
    yield get("response get streamed", f"{RESPONSES}/{{{{id response stream}}}}")
    yield get("response get not stored", f"{RESPONSES}/{{{{id response not stored}}}}")
    yield get("response get query", f"{RESPONSES}/{first}?stream=true")
    yield get("response items", f"{RESPONSES}/{{{{id response next}}}}/input_items")
    yield get("response items asc", f"{RESPONSES}/{items}/input_items?order=asc")
    yield get("response items page", f"{RESPONSES}/{items}/input_items?limit=2")
    yield get("response items after", f"{RESPONSES}/{items}/input_items?after=msg_own")
    yield get("response items bad after", f"{RESPONSES}/{items}/input_items?after=x")
    yield get("response items bad limit", f"{RESPONSES}/{items}/input_items?limit=0")
    yield get("response items bad order", f"{RESPONSES}/{items}/input_items?order=up")
    yield get("response items bad query", f"{RESPONSES}/{items}/input_items?include=x")
    yield get("response delete", f"{RESPONSES}/{first}", "DELETE")
    yield get("response delete again", f"{RESPONSES}/{first}", "DELETE")
    yield get("response get deleted", f"{RESPONSES}/{first}")
    yield get("response get unknown", UNKNOWN)
    yield get("response delete unknown", UNKNOWN, "DELETE")
    yield get("response items unknown", f"{UNKNOWN}/input_items")
    yield get("response post one", UNKNOWN, "POST")
    yield response("next of deleted", previous_response_id=first)


def _format(schema: Any, name: Any = "person") -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", "name": name, "schema": schema}}}


_REFUSED: tuple[dict[str, Any], ...] = (
    {"input": None},
    {"input": []},
    {"input": 5},
    {"input": [{"type": "strange"}]},
    {"input": [{"role": "king", "content": "x"}]},
    {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
    {"input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]},
    {"input": [{"role": "user"}]},
    {"input": [RESULT]},
    {"input": [{"role": "user", "content": "x", "mood": "good"}]},
    {"input": "word " * 3000},
    {"input": "word " * 3000, "max_output_tokens": None},
    {"input": "x" * 70000},
    {"max_output_tokens": 0},
    {"max_output_tokens": 100000},
    {"max_output_tokens": 4, "min_tokens": 5},
    {"instructions": 5},
    {"n": 2},
    {"return_token_ids": True},
    {"include": ["reasoning.encrypted_content"]},
    {"include": [LOGPROBS], "top_logprobs": 21},
    {"include": [LOGPROBS], "tools": [WEATHER]},
    {"include": [LOGPROBS], "top_logprobs": 20, "max_output_tokens": 2**28},
    {"top_logprobs": 2},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"text": {"format": {"type": "yaml"}}},
    {"text": {"format": {"type": "json_object"}}, "guided_regex": "a"},
    {"text": {"format": {"type": "json_object"}}, "tools": [WEATHER]},
    {"text": {"verbosity": "low"}},
    _format(REMOTE_SCHEMA),
    _format({"type": "strange"}),
    _format(PERSON_SCHEMA, "a b"),
    {**_format(PERSON_SCHEMA), "tools": [WEATHER]},
    {**_format(PERSON_SCHEMA), "tools": [STRICT]},
    {"tool_choice": "required"},
    {"tool_choice": {"type": "function", "name": "fly"}, "tools": [WEATHER]},
    {"tool_choice": {"type": "web_search"}, "tools": [WEATHER]},
    {"tools": [WEATHER, WEATHER]},
    {"tools": [{"type": "web_search"}]},
    {"tools": [{"type": "function"}]},
    {"tools": [{"type": "function", "name": "f", "parameters": {"type": "array"}}]},
    {"tools": [{"type": "function", "name": "f", "parameters": REMOTE_SCHEMA, "strict": True}]},
    {"previous_response_id": "resp_unknown"},
    {"previous_response_id": 5},
    {"truncation": "auto"},
    {"reasoning": {"effort": "high"}},
    {"background": True},
    {"service_tier": "flex"},
    {"metadata": {"a": 1}},
    {"conversation": "c"},
    {"messages": []},
)
