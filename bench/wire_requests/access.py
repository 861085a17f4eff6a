"""A server with API keys, limits, an admin key, a cache, a small body limit, guesses and CORS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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

FILES = (("keys.txt", "key-open\nkey-limited name=limited tokens-per-minute=40 priority=2\n"),)
OPTIONS = (
    "--device=cpu",
    "--api-key-file={folder}/keys.txt",
    "--admin-key=key-admin",
    "--cache-size=8",
    "--max-body-size=4K",
    "--speculative-tokens=4",
    "--cors-origin=https://example.org",
    "--public-docs",
)
_ORIGIN = "https://example.org"
_OPEN = "Bearer key-open"
_ADMIN = "Bearer key-admin"
_BODIES = {
    CHAT: chat_body(),
    TEXT: text_body(),
    RESPONSES: response_body(),
    MESSAGES: message_body(),
}


def requests() -> Iterator[WireRequest]:
    yield from _keys()
    yield from _limits()
    yield from _cache()
    yield from _predictions()
    yield from _cors()
    yield from _drain()


def _keys() -> Iterator[WireRequest]:
    for path, body in _BODIES.items():
        name = path.strip("/")
        yield post(f"no key {name}", path, body)
        yield post(f"wrong key {name}", path, body, Authorization="Bearer wrong")
        yield post(f"right key {name}", path, body, x_api_key="key-open")
    yield get("no key models", "/v1/models")
    yield get("key models", "/v1/models", Authorization=_OPEN)
    yield get("basic models", "/v1/models", Authorization="Basic key-open")
    yield get("no key unknown path", "/v1/nothing")
    yield get("no key metrics", "/metrics")
    yield get("no key health", "/health")
    yield get("no key docs", "/docs")
    mine = f"{RESPONSES}/{{{{id right key v1/responses}}}}"
    yield get("own response", mine, Authorization=_OPEN)
    yield get("response of another key", mine, Authorization="Bearer key-limited")


def _limits() -> Iterator[WireRequest]:
    for path, body in _BODIES.items():
        field = {TEXT: "prompt", RESPONSES: "input"}.get(path, "messages")
        long = "one two three four five six seven " * 8
        prompt = [{"role": "user", "content": long}] if field == "messages" else long
        name = path.strip("/")
        yield post(f"over the limit {name}", path, body | {field: prompt}, x_api_key="key-limited")
        large = body | {"user": "x" * 5000}
        yield post(f"body too large {name}", path, large, x_api_key="key-open")


def _cache() -> Iterator[WireRequest]:
    for number in (1, 2):
        yield post(f"cached chat {number}", CHAT, chat_body(top_k=5), Authorization=_OPEN)
        stream = chat_body(top_k=5, stream=True, max_tokens=1)
        streamed = post(f"cached chat stream {number}", CHAT, stream, Authorization=_OPEN)
        yield streamed._replace(is_sent_once=True)
        yield post(f"cached text {number}", TEXT, text_body(top_k=5), Authorization=_OPEN)
        refused = text_body(n=0)
        yield post(f"cached refusal {number}", TEXT, refused, Authorization=_OPEN)


def _predictions() -> Iterator[WireRequest]:
    guess = {"type": "content", "content": "Hello! Who are you?"}
    cases: dict[str, dict[str, Any]] = {
        "whole": {},
        "penalty": {"presence_penalty": 1},
        "structure": {"guided_regex": "a"},
        "kind": {"prediction": {"type": "text"}},
    }
    for name, fields in cases.items():
        body = chat_body(**{"prediction": guess} | fields)
        yield post(f"prediction {name}", CHAT, body, Authorization=_OPEN)


def _cors() -> Iterator[WireRequest]:
    asked = {"Access_Control_Request_Method": "POST", "Origin": _ORIGIN}
    yield get("preflight", CHAT, "OPTIONS", **asked)
    yield get("preflight other", CHAT, "OPTIONS", **asked | {"Origin": "https://example.com"})
    yield get("origin", "/v1/models", Origin=_ORIGIN, Authorization=_OPEN)
    yield get("origin without key", "/v1/models", Origin=_ORIGIN)


def _drain() -> Iterator[WireRequest]:
    yield get("drain no key", "/admin/drain", "POST")
    yield get("drain wrong key", "/admin/drain", "POST", Authorization=_OPEN)
    yield get("drain", "/admin/drain", "POST", Authorization=_ADMIN)
    for path, body in _BODIES.items():
        name = path.strip("/")
        yield post(f"drained {name}", path, body | {"top_p": 0.5}, x_api_key="key-open")
    yield get("drained health", "/health")
    yield get("drained live", "/health/live")
    yield get("undrain", "/admin/drain", "DELETE", x_api_key="key-admin")
    yield get("undrained health", "/health")
