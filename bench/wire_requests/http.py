"""Everything else that an open server answers: models, health, paths, methods, broken bodies."""

from __future__ import annotations

from collections.abc import Iterator

from wire_requests.request import (
    CHAT,
    MESSAGES,
    RESPONSES,
    TEXT,
    WireRequest,
    chat_body,
    get,
    post,
    text_body,
)

BROKEN_BODIES = {
    "empty": b"",
    "cut": b'{"model": "glm-tiny", ',
    "list": b"[]",
    "string": b'"x"',
    "not utf-8": b'{"model": "\xff"}',
    "surrogate": b'{"model": "\\ud800"}',
    "number too long": b'{"max_tokens": ' + b"1" * 400 + b"}",
    "nan": b'{"temperature": NaN}',
    "nested": b"[" * 2000,
}


def requests() -> Iterator[WireRequest]:
    yield from _pages()
    yield from _paths()
    yield from _bodies()


def _pages() -> Iterator[WireRequest]:
    yield get("models", "/v1/models")
    yield get("model", "/v1/models/glm-tiny")
    yield get("model unknown", "/v1/models/some/other")
    yield get("health", "/health")
    yield get("health live", "/health/live")
    yield get("health ready", "/health/ready")
    yield get("version", "/version")
    yield get("openapi", "/openapi.json")
    yield get("docs", "/docs")
    yield get("metrics", "/metrics")
    yield get("head models", "/v1/models", "HEAD")
    yield get("own request id", "/version", X_Request_Id="mine-1")
    yield get("bad request id", "/version", X_Request_Id="two words")
    yield get("drain without admin key", "/admin/drain", "POST")
    yield get("undrain without admin key", "/admin/drain", "DELETE")


def _paths() -> Iterator[WireRequest]:
    yield get("unknown path", "/v1/nothing")
    yield get("unknown root", "/")
    yield get("path without version", "/chat/completions", "POST")
    yield get("path with version twice", "/v1/v1/completions", "POST")
    yield get("path with slash", "/v1/models/")
    yield get("path long", "/" + "x" * 300)
    yield get("chat get", CHAT)
    yield get("chat delete", CHAT, "DELETE")
    yield get("chat options", CHAT, "OPTIONS")
    yield get("text put", TEXT, "PUT")
    yield get("responses get", RESPONSES)
    yield get("embedding get", "/v1/embeddings")
    yield get("models post", "/v1/models", "POST")
    yield get("health post", "/health", "POST")
    yield get("version delete", "/version", "DELETE")
    yield get("drain get", "/admin/drain")


def _bodies() -> Iterator[WireRequest]:
    for path in (CHAT, TEXT, RESPONSES, MESSAGES, "/v1/embeddings", "/tokenize", "/detokenize"):
        for name, body in BROKEN_BODIES.items():
            yield WireRequest(f"body {name} {path.strip('/')}", "POST", path, body)
    for path in (CHAT, TEXT, RESPONSES, MESSAGES):
        name = path.strip("/")
        yield WireRequest(f"body too large {name}", "POST", path, b"", (_LENGTH,))
        yield post(f"body compressed {name}", path, {}, Content_Encoding="gzip")
        yield post(f"event id without journal {name}", path, _valid(path), Last_Event_ID="x:1:1")


_LENGTH = ("Content-Length", str(2**30))


def _valid(path: str) -> dict[str, object]:
    """A body that is valid, for what is looked at behind it."""
    if path == RESPONSES:
        return {"model": "glm-tiny", "input": "Hello", "stream": True}
    return (text_body if path == TEXT else chat_body)(stream=True)
