"""What the compliance suite of Open Responses checks, translated to Python.

The suite is TypeScript: `src/lib/compliance-tests.ts`, `src/lib/sse-parser.ts` and the zod schemas
in `src/generated/kubb/zod` of github.com/openresponses/openresponses. The schemas here are the same
as JSON Schema, as far as a server without files, pictures and searches writes them. The tests over
WebSockets are in tests/api/test_open_responses_socket.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx
from jsonschema import Draft202012Validator

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}


def an_object(optional: Mapping[str, Schema] = {}, **required: Schema) -> Schema:
    """zod's object: these members, and any others."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": [*required],
    }


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, NULL]}


def a_list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


TOP_LOGPROB = an_object(token=TEXT, logprob=NUMBER, bytes=a_list(INTEGER))
LOGPROB = an_object(
    token=TEXT, logprob=NUMBER, bytes=a_list(INTEGER), top_logprobs=a_list(TOP_LOGPROB)
)
OUTPUT_TEXT = an_object(
    type={"const": "output_text"}, text=TEXT, annotations=a_list({}), logprobs=a_list(LOGPROB)
)
ITEM_STATUS: Schema = {"enum": ["in_progress", "completed", "incomplete"]}
MESSAGE = an_object(
    type={"const": "message"},
    id=TEXT,
    status=ITEM_STATUS,
    role={"enum": ["user", "assistant", "system", "developer"]},
    content=a_list(OUTPUT_TEXT),
)
FUNCTION_CALL = an_object(
    {"created_by": TEXT},
    type={"const": "function_call"},
    id=TEXT,
    call_id=TEXT,
    name=TEXT,
    arguments=TEXT,
    status=ITEM_STATUS,
)
ITEM: Schema = {"anyOf": [MESSAGE, FUNCTION_CALL]}
TOOL = an_object(
    type={"const": "function"},
    name=TEXT,
    description=or_null(TEXT),
    parameters=or_null({"type": "object"}),
    strict=or_null(FLAG),
)
USAGE = an_object(
    input_tokens=INTEGER,
    output_tokens=INTEGER,
    total_tokens=INTEGER,
    input_tokens_details=an_object(cached_tokens=INTEGER),
    output_tokens_details=an_object(reasoning_tokens=INTEGER),
)
FORMAT: Schema = {
    "anyOf": [
        an_object(type={"enum": ["text", "json_object"]}),
        an_object(
            type={"const": "json_schema"},
            name=TEXT,
            description=or_null(TEXT),
            schema={},
            strict=FLAG,
        ),
    ]
}
RESPONSE = an_object(
    id=TEXT,
    object={"const": "response"},
    created_at=INTEGER,
    completed_at=or_null(INTEGER),
    status=TEXT,
    incomplete_details=or_null(an_object(reason=TEXT)),
    model=TEXT,
    previous_response_id=or_null(TEXT),
    instructions=or_null(TEXT),
    output=a_list(ITEM),
    error=or_null(an_object(code=TEXT, message=TEXT)),
    tools=a_list(TOOL),
    tool_choice={"enum": ["none", "auto", "required"]},
    truncation={"enum": ["auto", "disabled"]},
    parallel_tool_calls=FLAG,
    text=an_object({"verbosity": {"enum": ["low", "medium", "high"]}}, format=FORMAT),
    top_p=NUMBER,
    presence_penalty=NUMBER,
    frequency_penalty=NUMBER,
    top_logprobs=INTEGER,
    temperature=NUMBER,
    reasoning=or_null(an_object(effort=or_null(TEXT), summary=or_null(TEXT))),
    usage=or_null(USAGE),
    max_output_tokens=or_null(INTEGER),
    max_tool_calls=or_null(INTEGER),
    store=FLAG,
    background=FLAG,
    service_tier=TEXT,
    metadata={},
    safety_identifier=or_null(TEXT),
    prompt_cache_key=or_null(TEXT),
)


def _event(*kinds: str, **members: Schema) -> dict[str, Schema]:
    schema = an_object(type={"enum": [*kinds]}, sequence_number=INTEGER, **members)
    return dict.fromkeys(kinds, schema)


_OF_OUTPUT = {"item_id": TEXT, "output_index": INTEGER}
_OF_TEXT = {**_OF_OUTPUT, "content_index": INTEGER}
_STATES = "created queued in_progress completed failed incomplete".split()

EVENTS: dict[str, Schema] = {
    **_event(*(f"response.{state}" for state in _STATES), response=RESPONSE),
    **_event(
        "response.output_item.added",
        "response.output_item.done",
        output_index=INTEGER,
        item=or_null(ITEM),
    ),
    **_event(
        "response.content_part.added", "response.content_part.done", **_OF_TEXT, part=OUTPUT_TEXT
    ),
    **_event("response.output_text.delta", **_OF_TEXT, delta=TEXT, logprobs=a_list(LOGPROB)),
    **_event("response.output_text.done", **_OF_TEXT, text=TEXT, logprobs=a_list(LOGPROB)),
    **_event("response.function_call_arguments.delta", **_OF_OUTPUT, delta=TEXT),
    **_event("response.function_call_arguments.done", **_OF_OUTPUT, arguments=TEXT),
}
FINAL = ("response.completed", "response.failed", "response.incomplete")


class Stream(NamedTuple):
    """A stream as the suite reads it."""

    events: list[dict[str, Any]]
    errors: list[str]
    final_response: dict[str, Any] | None


def read_stream(response: httpx.Response) -> Stream:
    """All events of a stream, and what is wrong with them."""
    events, errors, final = list[dict[str, Any]](), list[str](), None
    for line in response.text.splitlines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        event = json.loads(data)
        events.append(event)
        schema = EVENTS.get(event["type"])
        errors += problems(event, schema) if schema else [f"{event['type']}: unknown"]
        if event["type"] in FINAL:
            final = event["response"]
    return Stream(events, errors, final)


def problems(value: Any, schema: Schema) -> list[str]:
    """What is wrong with a value; nothing if it matches."""
    found = Draft202012Validator(schema).iter_errors(value)
    return [f"{'.'.join(map(str, one.path))}: {one.message[:200]}" for one in found]


Check = Callable[[dict[str, Any], Stream | None], list[str]]
"""One of the suite's validators: what is wrong with a response and its stream, if it has one."""


def has_output(response: dict[str, Any], stream: Stream | None) -> list[str]:
    return [] if response["output"] else ["the response has no output items"]


def has_function_call(response: dict[str, Any], stream: Stream | None) -> list[str]:
    kinds = [item["type"] for item in response["output"]]
    return [] if "function_call" in kinds else [f"expected a function_call, not {kinds}"]


def is_completed(response: dict[str, Any], stream: Stream | None) -> list[str]:
    status = response["status"]
    return [] if status == "completed" else [f"expected the status completed, not {status}"]


def has_events(response: dict[str, Any], stream: Stream | None) -> list[str]:
    return [] if stream is not None and stream.events else ["no events"]


def has_valid_events(response: dict[str, Any], stream: Stream | None) -> list[str]:
    return [] if stream is None else stream.errors


def has_events_of_a_call(response: dict[str, Any], stream: Stream | None) -> list[str]:
    assert stream is not None
    kinds = {event["type"] for event in stream.events}
    of_calls = {
        event["type"]
        for event in stream.events
        if event.get("item") and event["item"]["type"] == "function_call"
    }
    wanted = {
        "response.output_item.added": of_calls,
        "response.function_call_arguments.delta": kinds,
        "response.function_call_arguments.done": kinds,
        "response.output_item.done": of_calls,
    }
    return [f"no {kind}" for kind, found in wanted.items() if kind not in found]


class Template(NamedTuple):
    """One test of the suite."""

    request: dict[str, Any]
    checks: tuple[Check, ...]
    is_stream: bool = False


def said(content: Any, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


_WEATHER = {
    "input": [said("What's the weather like in San Francisco?")],
    "tools": [
        {
            "type": "function",
            "name": "get_weather",
            "description": "Get the current weather for a location",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {
                        "type": "string",
                        "description": "The city and state, e.g. San Francisco, CA",
                    }
                },
                "required": ["location"],
            },
        }
    ],
}
_PICTURE = "data:image/png;base64,iVBORw0KGgo="

TEMPLATES = {
    "basic-response": Template(
        {"input": [said("Say hello in exactly 3 words.")]}, (has_output, is_completed)
    ),
    "streaming-response": Template(
        {"input": [said("Count from 1 to 5.")]},
        (has_events, has_valid_events, is_completed),
        is_stream=True,
    ),
    "system-prompt": Template(
        {
            "input": [
                said("You are a pirate. Always respond in pirate speak.", "system"),
                said("Say hello."),
            ]
        },
        (has_output, is_completed),
    ),
    "tool-calling": Template(_WEATHER, (has_output, has_function_call)),
    "tool-calling-streaming": Template(
        _WEATHER, (has_events, has_valid_events, has_events_of_a_call), is_stream=True
    ),
    "multi-turn": Template(
        {
            "input": [
                said("My name is Alice."),
                said("Hello Alice! Nice to meet you. How can I help you today?", "assistant"),
                said("What is my name?"),
            ]
        },
        (has_output, is_completed),
    ),
}
"""The tests over HTTP that need no pictures, by the suite's ids."""

IMAGE_INPUT = {
    "input": [
        said(
            [
                {
                    "type": "input_text",
                    "text": "What do you see in this image? Answer in one sentence.",
                },
                {"type": "input_image", "image_url": _PICTURE},
            ]
        )
    ]
}
"""The request of the test `image-input`, with a smaller picture."""
