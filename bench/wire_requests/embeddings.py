"""/v1/embeddings"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wire_requests.request import MODEL, WireRequest, post, refusals

PATH = "/v1/embeddings"


def embedding(name: str, **fields: Any) -> WireRequest:
    return post(f"embedding {name}", PATH, {"model": MODEL, "input": "Hello"} | fields)


def requests() -> Iterator[WireRequest]:
    yield embedding("one")
    yield embedding("base64", encoding_format="base64")
    yield embedding("several", input=["One", "Two"], encoding_format="base64")
    yield embedding("ids", input=[300, 301], encoding_format="base64")
    yield embedding("several ids", input=[[300], [301, 302]], encoding_format="base64")
    yield embedding("salt", cache_salt="x", priority=1, user="u", encoding_format="base64")
    yield from refusals(embedding, _REFUSED)


_REFUSED: tuple[dict[str, Any], ...] = (
    {"model": "ada"},
    {"input": None},
    {"input": ""},
    {"input": []},
    {"input": ["x", ""]},
    {"input": 5},
    {"input": [2688]},
    {"input": [300] * 2049},
    {"input": "x" * 70000},
    {"encoding_format": "hex"},
    {"dimensions": 64},
    {"cache_salt": "x" * 1025},
)
