"""Event ids: the position of a client in a stream."""

from __future__ import annotations

import re
from typing import NamedTuple

_PATTERN = re.compile(r"([0-9a-f]{32}):(\d{1,9}):(\d{1,9})")


class EventId(NamedTuple):
    """The value of `id:` and of `Last-Event-ID`."""

    stream_id: str
    number: int
    """The event's place in its stream, from 1 on."""
    num_deltas: int
    """Deltas recorded when the event was sent; the event follows from these. A journal that has
    fewer has lost its last commits, which happens only when the machine itself goes down."""

    def __str__(self) -> str:
        return f"{self.stream_id}:{self.number}:{self.num_deltas}"


def parse_event_id(text: str) -> EventId | None:
    """The id; None if the text is not an id of this server's."""
    match = _PATTERN.fullmatch(text)
    return EventId(match[1], int(match[2]), int(match[3])) if match else None
