"""/v1/messages and /v1/messages/count_tokens"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wire_requests.request import (
    HELLO,
    MESSAGES,
    MODEL,
    PERSON_SCHEMA,
    REMOTE_SCHEMA,
    WEATHER_SCHEMA,
    WireRequest,
    get,
    message,
    post,
    refusals,
)

WEATHER = {"name": "get_weather", "description": "Weather.", "input_schema": WEATHER_SCHEMA}
STRICT = {**WEATHER, "strict": True}
TIME = {"name": "get_time", "input_schema": {"type": "object"}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
CALLED = [*HELLO, {"role": "assistant", "content": [USE]}, {"role": "user", "content": [RESULT]}]


def requests() -> Iterator[WireRequest]:
    yield from _answers()
    yield from _tools()
    yield from refusals(message, _REFUSED)
    yield from _counts()


def _answers() -> Iterator[WireRequest]:
    cached = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    schema = {"format": {"type": "json_schema", "schema": PERSON_SCHEMA}}
    yield message("whole")
    yield message("stream", stream=True)
    yield message("system", system="Be brief.")
    yield message("system blocks", system=[cached], stream=True)
    yield message("stop", stop_sequences=["e"], max_tokens=32)
    yield message("stop stream", stop_sequences=["e", "a"], max_tokens=32, stream=True)
    yield message("schema", output_config=schema, max_tokens=24)
    yield message("schema stream", output_config=schema, max_tokens=24, stream=True)
    yield message("top k", temperature=1, top_k=1)
    yield message("own records", metadata={"user_id": "u"}, service_tier="standard_only")
    yield message("thinking disabled", thinking={"type": "disabled"})
    yield message("request id", messages=[*HELLO, {"role": "system", "content": "Go on."}])


def _tools() -> Iterator[WireRequest]:
    offered = {"tools": [WEATHER, TIME], "max_tokens": 48}
    alone = {"type": "any", "disable_parallel_tool_use": True}
    yield message("tools", **offered)
    yield message("tools any", **offered, tool_choice={"type": "any"})
    yield message("tools any stream", **offered, tool_choice={"type": "any"}, stream=True)
    yield message("tools single", **offered, tool_choice=alone)
    yield message("tools named", **offered, tool_choice={"type": "tool", "name": "get_weather"})
    yield message("tools none", **offered, tool_choice={"type": "none"})
    yield message("tools strict stream", tools=[STRICT], max_tokens=48, stream=True)
    yield message("tools called", messages=CALLED, tools=[WEATHER])


def _counts() -> Iterator[WireRequest]:
    path = f"{MESSAGES}/count_tokens"
    body = {"model": MODEL, "messages": HELLO}
    yield post("count", path, body)
    yield post("count tools", path, body | {"tools": [WEATHER], "system": "Be brief."})
    yield post("count unknown model", path, body | {"model": "claude"})
    yield post("count max tokens", path, body | {"max_tokens": 8})
    yield post("count no result", path, body | {"messages": [CALLED[-1]]})
    yield post("count same tools", path, body | {"tools": [WEATHER, WEATHER]})
    yield post("count too long", path, body | {"messages": _user("x" * 70000)})
    yield post("count empty", path, {})
    yield get("count get", path)
    yield get("message get", MESSAGES)
    yield get("message unknown path", f"{MESSAGES}/batches", "POST")


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def _format(schema: Any) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


_REFUSED: tuple[dict[str, Any], ...] = (
    {"model": "claude"},
    {"model": None},
    {"unknown_field": 1},
    {"messages": None},
    {"messages": []},
    {"messages": [{"role": "king", "content": "x"}]},
    {"messages": [{"role": "user"}]},
    {"messages": _user(5)},
    {"messages": _user([{"type": "image", "source": {}}])},
    {"messages": _user([{"type": "text"}])},
    {"messages": _user([RESULT])},
    {"messages": _user([{"type": "tool_use"}])},
    {"messages": [*HELLO, {"role": "assistant", "content": "I"}]},
    {"messages": _user("word " * 3000)},
    {"messages": _user("x" * 70000)},
    {"system": 5},
    {"system": [{"type": "image"}]},
    {"max_tokens": None},
    {"max_tokens": 0},
    {"max_tokens": "8"},
    {"max_tokens": 100000},
    {"temperature": 1.5},
    {"temperature": "warm"},
    {"top_p": 0},
    {"top_k": -1},
    {"stop_sequences": [""]},
    {"stop_sequences": "e"},
    {"stop_sequences": ["x"] * 17},
    {"stop_sequences": ["x" * 1025]},
    {"stream": "yes"},
    {"metadata": {"session": "x"}},
    {"service_tier": "flex"},
    {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    _format(REMOTE_SCHEMA),
    _format({"type": "strange"}),
    _format(5),
    {**_format(PERSON_SCHEMA), "tools": [WEATHER]},
    {**_format(PERSON_SCHEMA), "tools": [STRICT]},
    {"tool_choice": {"type": "any"}},
    {"tool_choice": {"type": "tool", "name": "fly"}, "tools": [WEATHER]},
    {"tool_choice": {"type": "strange"}, "tools": [WEATHER]},
    {"tools": [WEATHER, WEATHER]},
    {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    {"tools": [{"name": "a b", "input_schema": {}}]},
    {"tools": [{"name": "f"}]},
    {"tools": [{"name": "f", "input_schema": {"type": "array"}}]},
    {"tools": [{"name": "f", "input_schema": REMOTE_SCHEMA, "strict": True}]},
    {"seed": 1},
    {"stop": "e"},
)
