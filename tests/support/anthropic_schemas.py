"""Anthropic's published schemas, as the types of its own Python SDK carry them.

The SDK reads leniently; `checked` lets no unknown field pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from anthropic import BaseModel
from anthropic.types import (
    Message,
    MessageTokensCount,
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawContentBlockStopEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
)
from anthropic.types.shared import ErrorResponse

Official = TypeVar("Official", bound=BaseModel)

EVENTS: dict[str, type[BaseModel]] = {
    "message_start": RawMessageStartEvent,
    "content_block_start": RawContentBlockStartEvent,
    "content_block_delta": RawContentBlockDeltaEvent,
    "content_block_stop": RawContentBlockStopEvent,
    "message_delta": RawMessageDeltaEvent,
    "message_stop": RawMessageStopEvent,
    "error": ErrorResponse,
}


def checked(kind: type[Official], data: dict[str, Any]) -> Official:
    """The object, if it has the fields of its type, of their types, and no others but these.

    Raises:
        ValidationError: a field has another type, or is missing.
        AssertionError: a field is unknown.
    """
    found = kind.model_validate_json(json.dumps(data), strict=True)
    for part in _parts(found):
        assert not part.model_extra, f"{type(part).__name__} has no {set(part.model_extra)}"
    return found


def checked_message(data: dict[str, Any]) -> Message:
    """A whole message."""
    return checked(Message, data)


def checked_count(data: dict[str, Any]) -> MessageTokensCount:
    """A number of tokens."""
    return checked(MessageTokensCount, data)


def checked_error(data: dict[str, Any]) -> ErrorResponse:
    """The body of an error."""
    return checked(ErrorResponse, data)


def checked_event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """The data of one event of a stream."""
    assert data["type"] == name
    if name == "ping":
        assert data == {"type": "ping"}
    else:
        checked(EVENTS[name], data)
    return data


def _parts(value: object) -> Iterator[BaseModel]:
    """The object and all objects in it."""
    if isinstance(value, BaseModel):
        yield value
        for name in value.model_fields_set:
            yield from _parts(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item)
