"""Finds tool calls in a response while it is generated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from glmserve.text.tools.tool import Tool


@dataclass(frozen=True)
class ContentDelta:
    """Text that is not a call; never empty."""

    text: str


@dataclass(frozen=True)
class CallStarted:
    """The beginning of a call. Calls are numbered from 0."""

    index: int
    name: str


@dataclass(frozen=True)
class ArgumentsDelta:
    """A part of a call's arguments. All parts joined are a JSON object."""

    index: int
    text: str


_MAX_PIECE = 4096
"""Characters that a parser reads in one go."""

ToolEvent: TypeAlias = ContentDelta | CallStarted | ArgumentsDelta


class ToolParser(Protocol):
    """Splits one response into text and calls while it arrives in pieces.

    The joined events do not depend on how the text was cut. Text that is not a call of a known tool
    is content, unchanged. After the beginning of a call its arguments are emitted as they are
    written, even if they end early. Only the marks around a call and the whitespace beside them are
    dropped.
    """

    def push(self, text: str) -> list[ToolEvent]:
        """Add text; returns the events that can no longer change."""
        ...

    def flush(self) -> list[ToolEvent]:
        """End the response; returns the events that were held back."""
        ...


class StateParser(ABC):
    """A parser as a state machine. A state is a method that reads `_held`.

    A state appends to `_events`, removes what it has read from `_held`, and returns whether the
    next state can read the rest. False waits for more text.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._held = ""
        self._events: list[ToolEvent] = []
        self._state: Callable[[], bool]

    def push(self, text: str) -> list[ToolEvent]:
        # In pieces, because each event copies the held text: the time would grow with its square.
        for start in range(0, len(text), _MAX_PIECE):
            self._held += text[start : start + _MAX_PIECE]
            while self._state():
                pass
        return self._take_events()

    def flush(self) -> list[ToolEvent]:
        self._finish()
        self._held = ""
        return self._take_events()

    @abstractmethod
    def _finish(self) -> None:
        """Turn `_held` into events at the end of the response."""

    def _take_events(self) -> list[ToolEvent]:
        events, self._events = self._events, []
        return events

    def _emit_content(self, end: int | None = None) -> None:
        """Emit `_held[:end]` as content."""
        text = self._held[:end]
        self._held = self._held[len(text) :]
        if text:
            self._events.append(ContentDelta(text))
