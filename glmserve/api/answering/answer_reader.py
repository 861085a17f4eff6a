"""Reads one choice's text: thoughts, content and calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from glmserve.api.protocol.thinking import ThoughtPlace
from glmserve.text.text_assembler import ScoredToken
from glmserve.text.thoughts import CLOSE, OPEN, AnswerEvent, ThoughtDelta, ThoughtSplitter
from glmserve.text.tools import (
    ArgumentsDelta,
    CallStarted,
    ContentDelta,
    ToolEvent,
    ToolParser,
)


class ChatAnswer(NamedTuple):
    """A complete choice."""

    content: str
    calls: list[tuple[str, str]]
    """Name and arguments of each call."""
    events: Sequence[AnswerEvent]
    """Thoughts, content and calls in the order in which they were written."""
    token_ids: list[int]
    scored: list[ScoredToken]
    finish_reason: str
    thoughts: str = ""


class AnswerReader:
    """Finds the thoughts and the calls in one choice's text.

    Args:
        parser: of calls; None: the text has none.
        parallel: several calls are wanted.
        splitter: of thoughts; None: the text has none.
        place: where the answer has the thoughts.
    """

    def __init__(
        self,
        parser: ToolParser | None,
        *,
        parallel: bool,
        splitter: ThoughtSplitter | None = None,
        place: ThoughtPlace = ThoughtPlace.OWN,
    ) -> None:
        self._parser = parser
        self._parallel = parallel
        self._splitter = splitter
        self._place = place
        self._has_tag = False
        """Whether the tag that opens thoughts is in the content, and not the one that closes."""
        self._has_called = False

    def push(self, text: str) -> list[AnswerEvent]:
        """Add text; returns the events that can no longer change."""
        if self._splitter is None:
            return [*self._answered(text)]
        return [*self._split(*self._splitter.push(text))]

    def flush(self) -> list[AnswerEvent]:
        """End the text; returns the events that were held back."""
        events: list[AnswerEvent] = []
        if self._splitter is not None:
            events += self._split(*self._splitter.flush())
            events += self._closing_tag()
        return [*events, *(self._allowed(self._parser.flush()) if self._parser else ())]

    def finish_reason(self, reason: str) -> str:
        """The reason why the text ended, in terms of the answer."""
        return "tool_calls" if self._has_called and reason == "stop" else reason

    def whole(
        self, text: str, token_ids: list[int], scored: list[ScoredToken], reason: str
    ) -> ChatAnswer:
        """The answer of a complete text."""
        content, thoughts = list[str](), list[str]()
        calls = list[tuple[str, list[str]]]()
        events = (*self.push(text), *self.flush())
        for event in events:
            match event:
                case ThoughtDelta(more):
                    thoughts.append(more)
                case ContentDelta(more):
                    content.append(more)
                case CallStarted(_, name):
                    calls.append((name, []))
                case ArgumentsDelta(index, more):
                    calls[index][1].append(more)
        return ChatAnswer(
            "".join(content),
            [(name, "".join(arguments)) for name, arguments in calls],
            events,
            token_ids,
            scored,
            self.finish_reason(reason),
            "".join(thoughts),
        )

    def _split(self, thoughts: str, text: str) -> Iterator[AnswerEvent]:
        if thoughts:
            yield from self._placed(thoughts)
        if text:
            yield from self._closing_tag()
            yield from self._answered(text)

    def _placed(self, thoughts: str) -> Iterator[AnswerEvent]:
        if self._place is ThoughtPlace.OWN:
            yield ThoughtDelta(thoughts)
        elif self._place is ThoughtPlace.CONTENT:
            yield ContentDelta(thoughts if self._has_tag else f"{OPEN}\n{thoughts}")
            self._has_tag = True

    def _closing_tag(self) -> Iterator[AnswerEvent]:
        if self._has_tag:
            self._has_tag = False
            yield ContentDelta(f"\n{CLOSE}\n\n")

    def _answered(self, text: str) -> Sequence[AnswerEvent]:
        """Text that is no thoughts."""
        if self._parser is None:
            return [ContentDelta(text)] if text else []
        return self._allowed(self._parser.push(text))

    def _allowed(self, events: list[ToolEvent]) -> list[ToolEvent]:
        """Without parallel_tool_calls, the first call and what comes before it."""
        if not self._parallel and self._has_called:
            events = [e for e in events if isinstance(e, ArgumentsDelta) and e.index == 0]
        elif not self._parallel:
            events = [e for e in events if isinstance(e, ContentDelta) or e.index == 0]
        self._has_called = self._has_called or any(isinstance(e, CallStarted) for e in events)
        return events
