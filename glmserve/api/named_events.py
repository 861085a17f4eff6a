"""Server-sent events that carry their name, as the younger APIs send them."""

from __future__ import annotations

from glmserve.api.sse import encode_json


def named_event(name: str, data: object) -> bytes:
    """One event with a JSON payload."""
    return b"event: " + name.encode() + b"\ndata: " + encode_json(data) + b"\n\n"
