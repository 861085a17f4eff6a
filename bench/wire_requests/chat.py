"""/v1/chat/completions"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wire_requests.refused_fields import GENERATION
from wire_requests.request import (
    HELLO,
    PERSON_SCHEMA,
    REMOTE_SCHEMA,
    WEATHER_SCHEMA,
    WireRequest,
    chat,
    refusals,
)

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": WEATHER_SCHEMA,
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
STRICT = {"type": "function", "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}
CALLED = [
    *HELLO,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
]
USAGE = {"include_usage": True}


def requests() -> Iterator[WireRequest]:
    yield from _answers()
    yield from _tools()
    yield from _structures()
    yield from refusals(chat, [*GENERATION, *_REFUSED])


def _answers() -> Iterator[WireRequest]:
    system = [{"role": "system", "content": "Be brief."}]
    parts = [{"type": "text", "text": "Hello! "}, {"type": "text", "text": "Who are you?"}]
    yield chat("sampled without seed", temperature=1)  # first: seeds count requests
    yield chat("whole")
    yield chat("whole again")
    yield chat("stream", stream=True)
    yield chat("stream usage", stream=True, stream_options=USAGE)
    yield chat("system", messages=[*system, *HELLO])
    yield chat("parts", messages=[{"role": "user", "content": parts}])
    yield chat("turns", messages=[*HELLO, {"role": "assistant", "content": "A model."}, *HELLO])
    yield chat("sampled seed", temperature=1, seed=7)
    yield chat("sampled stream seed", temperature=1, seed=7, stream=True)
    yield chat("filters", temperature=0.8, top_p=0.9, top_k=20, min_p=0.01, seed=3)
    yield chat("penalties", presence_penalty=1, frequency_penalty=0.5, repetition_penalty=1.2)
    yield chat("choices", n=3, temperature=1, seed=11)
    yield chat("logprobs", logprobs=True, top_logprobs=2)
    yield chat("logprobs alone", logprobs=True)
    yield chat("logprobs stream", logprobs=True, top_logprobs=1, stream=True, stream_options=USAGE)
    yield chat("stop", stop=[" I", "e"], max_tokens=32)
    yield chat("stop stream", stop="e", max_tokens=32, stream=True)
    yield chat("stop kept", stop="e", max_tokens=32, include_stop_str_in_output=True)
    yield chat("stop token", stop_token_ids=list(range(300, 1300)), max_tokens=32)
    yield chat("length", max_completion_tokens=1)
    yield chat("min tokens", min_tokens=8, ignore_eos=True)
    yield chat("long", max_tokens=64, ignore_eos=True, stream=True)
    yield chat("token ids", return_token_ids=True)
    yield chat("token ids stream", return_token_ids=True, stream=True)
    yield chat("special tokens", skip_special_tokens=False, ignore_eos=True)
    yield chat("bias", logit_bias={"300": 100})
    yield chat("bad words", bad_words=["e", "a"])
    yield chat("service tier", service_tier="auto")
    yield chat("service tier stream", service_tier="default", stream=True)
    yield chat("own records", user="u", metadata={"a": "b"}, safety_identifier="s", store=False)
    yield chat("salt and priority", cache_salt="pepper", priority=-3)


def _tools() -> Iterator[WireRequest]:
    offered = {"tools": [WEATHER, TIME], "max_tokens": 48}
    allowed = {"mode": "required", "tools": [NAMED]}
    yield chat("tools", **offered)
    yield chat("tools stream", **offered, stream=True)
    yield chat("tools none", **offered, tool_choice="none")
    yield chat("tools required", **offered, tool_choice="required")
    yield chat("tools required stream", **offered, tool_choice="required", stream=True)
    yield chat("tools named", **offered, tool_choice=NAMED)
    yield chat("tools named stream", **offered, tool_choice=NAMED, stream=True)
    yield chat(
        "tools allowed",
        **offered,
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
    )
    yield chat("tools single", **offered, tool_choice="required", parallel_tool_calls=False)
    yield chat("tools strict", tools=[STRICT], max_tokens=48)
    yield chat("tools named logprobs", **offered, tool_choice=NAMED, logprobs=True)
    yield chat("tools called", messages=CALLED, tools=[WEATHER])
    yield chat("tools not called", messages=[*HELLO, CALLED[-1]])


def _structures() -> Iterator[WireRequest]:
    schema = {"name": "person", "schema": PERSON_SCHEMA}
    yield chat("json", response_format={"type": "json_object"}, max_tokens=24)
    yield chat("schema", response_format={"type": "json_schema", "json_schema": schema})
    yield chat(
        "schema stream",
        response_format={"type": "json_schema", "json_schema": schema},
        max_tokens=24,
        stream=True,
    )
    yield chat("text format", response_format={"type": "text"})
    yield chat("regex", structured_outputs={"regex": "[ab]{3}"})
    yield chat("choice", structured_outputs={"choice": ["yes", "no"]})
    yield chat("grammar", structured_outputs={"grammar": 'start: "yes" | "no"'})
    yield chat("json of text", structured_outputs={"json": '{"type": "boolean"}'})
    yield chat("guided", guided_choice=["red", "blue"], stream=True)


def _format(schema: Any, name: Any = "person") -> dict[str, Any]:
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
    }


def _tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": function}


_REFUSED: tuple[dict[str, Any], ...] = (
    {"messages": None},
    {"messages": []},
    {"messages": "Hello"},
    {"messages": [{"role": "king", "content": "x"}]},
    {"messages": [{"content": "x"}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": 5}]},
    {"messages": [{"role": "user", "content": "x", "name": "Ann"}]},
    {"messages": [{"role": "user", "content": []}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    {"messages": [{"role": "assistant"}]},
    {"messages": [*HELLO, {"role": "tool", "content": "x"}]},
    {"messages": [{"role": "user", "content": "x", "mood": "good"}]},
    {"messages": [{"role": "user", "content": "word " * 3000}]},
    {"messages": [{"role": "user", "content": "word " * 3000}], "max_tokens": None},
    {"messages": [{"role": "user", "content": "x" * 70000}]},
    {"max_tokens": 8, "max_completion_tokens": 8},
    {"max_completion_tokens": 0},
    {"top_logprobs": 2},
    {"logprobs": 3},
    {"logprobs": True, "top_logprobs": 21},
    {"logprobs": True, "top_logprobs": 20, "n": 128, "max_tokens": 2000},
    {"response_format": {"type": "yaml"}},
    {"response_format": {}},
    {"response_format": {"type": "json_schema"}},
    _format(REMOTE_SCHEMA),
    _format({"type": "strange"}),
    _format(5),
    _format(PERSON_SCHEMA, "a b"),
    {**_format(PERSON_SCHEMA), "guided_regex": "a"},
    {**_format(PERSON_SCHEMA), "tools": [WEATHER]},
    {**_format(PERSON_SCHEMA), "tools": [STRICT]},
    {"tool_choice": "required"},
    {"tool_choice": "maybe", "tools": [WEATHER]},
    {"tool_choice": {"type": "function", "function": {"name": "fly"}}, "tools": [WEATHER]},
    {"tool_choice": {"type": "strange"}, "tools": [WEATHER]},
    {"tools": [WEATHER, WEATHER]},
    {"tools": [{"type": "retrieval"}]},
    {"tools": [_tool()]},
    {"tools": [_tool(name="a b")]},
    {"tools": [_tool(name="f", parameters={"type": "array"})]},
    {"tools": [_tool(name="f", parameters=REMOTE_SCHEMA, strict=True)]},
    {"tools": [WEATHER] * 129},
    {"parallel_tool_calls": "no"},
    {"prediction": {"type": "content", "content": "Hello"}},
    {"prediction": {"type": "content"}},
    {"metadata": {"a": 1}},
    {"metadata": {str(n): "x" for n in range(17)}},
    {"modalities": ["audio"]},
    {"store": True},
    {"service_tier": "flex"},
    {"reasoning_effort": "high"},
    {"verbosity": "low"},
    {"audio": {}},
)
