"""Server-sent events as bytes, written by hand because it is done for every token."""

from __future__ import annotations

import msgspec

DONE = b"data: [DONE]\n\n"
"""The last event of OpenAI's older streams."""

encode_json = msgspec.json.Encoder().encode


def event(data: object) -> bytes:
    """One event with a JSON payload."""
    return b"data: " + encode_json(data) + b"\n\n"


def named_event(name: str, data: object) -> bytes:
    """One event with a name and a JSON payload, as the younger APIs send them."""
    return b"event: " + name.encode() + b"\ndata: " + encode_json(data) + b"\n\n"
