"""Ids of events: where a client is in which stream."""

from __future__ import annotations

import re
from typing import NamedTuple

_PATTERN = re.compile(r"([0-9a-f]{32}):(\d{1,9}):(\d{1,9})")


class EventId(NamedTuple):
    """What `id:` and `Last-Event-ID` say."""

    stream_id: str
    number: int
    """The event's place in its stream, from 1 on."""
    num_deltas: int
    """How many deltas were recorded when it was sent; all that it follows from are among them.
    Where fewer are left, the machine itself went down and took the last ones with it."""

    def __str__(self) -> str:
        return f"{self.stream_id}:{self.number}:{self.num_deltas}"


def parse_event_id(text: str) -> EventId | None:
    """The id, if it is one of ours."""
    match = _PATTERN.fullmatch(text)
    return EventId(match[1], int(match[2]), int(match[3])) if match else None
