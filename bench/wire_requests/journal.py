"""What a server with a journal answers: event ids, streams gone on with, Idempotency-Key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wire_requests.chat import NAMED, WEATHER
from wire_requests.request import (
    CHAT,
    MESSAGES,
    RESPONSES,
    TEXT,
    WireRequest,
    chat_body,
    get,
    message_body,
    post,
    response_body,
    text_body,
)

_CALLED = {"tools": [WEATHER], "tool_choice": NAMED, "max_tokens": 48}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, chat_body()),
    "chat sampled": (CHAT, chat_body(temperature=1, n=2)),
    "chat logprobs": (CHAT, chat_body(logprobs=True, top_logprobs=1)),
    "chat stop": (CHAT, chat_body(stop="e", max_tokens=32)),
    "chat tools": (CHAT, chat_body(**_CALLED)),
    "chat regex": (CHAT, chat_body(guided_regex="[ab]{4}")),
    "text": (TEXT, text_body()),
    "text echo": (TEXT, text_body(echo=True, logprobs=1)),
    "response": (RESPONSES, response_body()),
    "message": (MESSAGES, message_body()),
}


def requests() -> Iterator[WireRequest]:
    for name, (path, body) in BODIES.items():
        yield from _whole(name, path, body)
        if body.get("n", 1) == 1:  # else it is by chance which choice's tokens come first
            yield from _streamed(name, path, body | {"stream": True})
    yield from _going_on_from_a_response()
    yield from _refused_keys()
    yield get("metrics", "/metrics")


def _whole(name: str, path: str, body: dict[str, Any]) -> Iterator[WireRequest]:
    key = f"whole-{name.replace(' ', '-')}"
    yield post(f"{name} whole", path, body)
    yield post(f"{name} whole with key", path, body, Idempotency_Key=key)
    yield post(f"{name} whole replayed", path, body, Idempotency_Key=key)
    yield post(f"{name} key reused", path, body | {"top_p": 0.5}, Idempotency_Key=key)


def _streamed(name: str, path: str, body: dict[str, Any]) -> Iterator[WireRequest]:
    key = f"stream-{name.replace(' ', '-')}-{{{{try}}}}"
    replayed = f"{{{{key {name} stream}}}}"
    yield post(f"{name} stream", path, body, Idempotency_Key=key)
    yield post(f"{name} stream replayed", path, body, Idempotency_Key=replayed)
    for number in (0, 2):
        event = f"{{{{event {name} stream {number}}}}}"
        yield post(f"{name} resumed {number}", path, body, Last_Event_ID=event)
    event = f"{{{{event {name} stream 0}}}}"
    yield post(f"{name} mismatch", path, body | {"top_p": 0.5}, Last_Event_ID=event)
    yield post(f"{name} not a stream", path, body | {"stream": False}, Last_Event_ID=event)
    yield post(f"{name} unknown event", path, body, Last_Event_ID=f"{'0' * 32}:1:1")
    yield post(f"{name} bad event", path, body, Last_Event_ID="7")


def _going_on_from_a_response() -> Iterator[WireRequest]:
    body = response_body(previous_response_id="{{id response whole}}", input="And then?")
    yield post("response next", RESPONSES, body, Idempotency_Key="next")
    yield get("response deleted", f"{RESPONSES}/{{{{id response whole}}}}", "DELETE")
    yield post("response next replayed", RESPONSES, body, Idempotency_Key="next")
    yield get("response get", f"{RESPONSES}/{{{{id response next}}}}")


def _refused_keys() -> Iterator[WireRequest]:
    yield post("key with spaces", CHAT, chat_body(), Idempotency_Key="a b")
    yield post("key too long", CHAT, chat_body(), Idempotency_Key="x" * 256)
    yield post("key of a refused request", CHAT, chat_body(n=0), Idempotency_Key="refused")
    yield post("key after a refusal", CHAT, chat_body(), Idempotency_Key="refused")
    late = chat_body(tool_choice="required")
    yield post("key of a late refusal", CHAT, late, Idempotency_Key="late")
    yield post("key of a late refusal again", CHAT, late, Idempotency_Key="late")
