"""Reads server-sent events that carry their name."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import httpx


class NamedEvent(NamedTuple):
    name: str
    data: dict[str, Any]


def named_events(response: httpx.Response) -> list[NamedEvent]:
    """All events of a whole stream."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    *blocks, rest = response.text.split("\n\n")
    assert rest == ""
    return [_event(block) for block in blocks]


def _event(block: str) -> NamedEvent:
    name, data = block.split("\n")
    assert name.startswith("event: ")
    assert data.startswith("data: ")
    return NamedEvent(name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
