"""Finding tool calls in a response while it is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from glmserve.text.tools.tool import Tool


@dataclass(frozen=True)
class ContentDelta:
    """Text for the reader; never empty."""

    text: str


@dataclass(frozen=True)
class CallStarted:
    """A call of a tool; calls are numbered from 0."""

    index: int
    name: str


@dataclass(frozen=True)
class ArgumentsDelta:
    """More of the arguments of a call; joined they are the text of a JSON object."""

    index: int
    text: str


_PIECE = 4096
"""Characters that a parser looks at at once."""

ToolEvent: TypeAlias = ContentDelta | CallStarted | ArgumentsDelta


class ToolParser(Protocol):
    """Splits one response into text and calls, as its pieces arrive.

    Joined, the events do not depend on how the text was cut. What is not a call of a known tool is
    content, as it stands. Once a call has begun its arguments are passed on as they are written,
    whole or not; only the marks around a call, and whitespace beside them, are nobody's text.
    """

    def push(self, text: str) -> list[ToolEvent]:
        """What is settled now."""
        ...

    def flush(self) -> list[ToolEvent]:
        """What was held back, at the end of the response."""
        ...


class StateParser(ABC):
    """A parser as a machine: a state is a method that reads `_held`.

    A state appends to `_events`, takes what it has read from `_held`, and returns whether the next
    state can go on with the rest; False waits for more text.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._held = ""
        self._events: list[ToolEvent] = []
        self._state: Callable[[], bool]

    def push(self, text: str) -> list[ToolEvent]:
        # In pieces: each event copies what is held, so that a long text of many events takes long.
        for start in range(0, len(text), _PIECE):
            self._held += text[start : start + _PIECE]
            while self._state():
                pass
        return self._take_events()

    def flush(self) -> list[ToolEvent]:
        self._finish()
        self._held = ""
        return self._take_events()

    @abstractmethod
    def _finish(self) -> None:
        """Settle `_held`: nothing more will come."""

    def _take_events(self) -> list[ToolEvent]:
        events, self._events = self._events, []
        return events

    def _emit_content(self, end: int | None = None) -> None:
        """Pass `_held[:end]` on as content."""
        text = self._held[:end]
        self._held = self._held[len(text) :]
        if text:
            self._events.append(ContentDelta(text))
