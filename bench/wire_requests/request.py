"""One request, as it goes over the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

MODEL = "glm-tiny"
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"

HELLO = [{"role": "user", "content": "Hello! Who are you?"}]

WEATHER_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
PERSON_SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["age"],
    "additionalProperties": False,
}
REMOTE_SCHEMA = {"$ref": "https://example.org/schema.json"}
"""A schema that is refused."""


class WireRequest(NamedTuple):
    """A request.

    Path, headers and body may refer to an earlier request by its name: `{{id NAME}}` is the id in
    its answer, `{{event NAME N}}` the id of the N-th event of its stream, from 0 on, and
    `{{key NAME}}` its Idempotency-Key. `{{try}}` is how often this request was sent before.
    """

    name: str
    """Names the file with the answer."""
    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    is_sent_once: bool = False
    """Else a request for a stream is sent several times; see wire_streams.py."""


def post(name: str, path: str, body: Any, **headers: str) -> WireRequest:
    """A request with a JSON body. Header names are written with _ for -."""
    return WireRequest(name, "POST", path, json.dumps(body).encode(), _named(headers))


def get(name: str, path: str, method: str = "GET", **headers: str) -> WireRequest:
    """A request without a body."""
    return WireRequest(name, method, path, b"", _named(headers))


def _named(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", "-"), value) for name, value in headers.items())


def chat(name: str, **fields: Any) -> WireRequest:
    """A short, greedy chat completion."""
    return post(f"chat {name}", CHAT, chat_body(**fields))


def chat_body(**fields: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": HELLO, "temperature": 0}
    limit = {} if "max_completion_tokens" in fields else {"max_tokens": 8}
    return body | limit | fields


def text(name: str, **fields: Any) -> WireRequest:
    """A short, greedy text completion."""
    return post(f"text {name}", TEXT, text_body(**fields))


def text_body(**fields: Any) -> dict[str, Any]:
    body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    return body | {"ignore_eos": True} | fields  # glm-tiny ends most texts at once


def response(name: str, **fields: Any) -> WireRequest:
    """A short, greedy response."""
    return post(f"response {name}", RESPONSES, response_body(**fields))


def response_body(**fields: Any) -> dict[str, Any]:
    body = {"model": MODEL, "input": "Hello! Who are you?", "temperature": 0}
    return body | {"max_output_tokens": 8} | fields


def message(name: str, **fields: Any) -> WireRequest:
    """A short, greedy message."""
    return post(f"message {name}", MESSAGES, message_body(**fields))


def message_body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": HELLO, "max_tokens": 8, "temperature": 0} | fields


def refusals(
    make: Callable[..., WireRequest], cases: Iterable[Mapping[str, Any]]
) -> Iterator[WireRequest]:
    """A request for each case; its number and its fields name it."""
    for number, fields in enumerate(cases, 1):
        yield make(f"refused {number:02} {' '.join(fields)}", **fields)
