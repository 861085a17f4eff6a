"""What a tool parser makes of a response, put together again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from glmserve.text.tools import ArgumentsDelta, CallStarted, ContentDelta, ToolEvent, ToolParser


class Reply(NamedTuple):
    content: str
    calls: list[tuple[str, str]]
    """Name and arguments."""


def joined(events: Iterable[ToolEvent]) -> Reply:
    content = ""
    calls: list[tuple[str, str]] = []
    for event in events:
        match event:
            case ContentDelta(text):
                assert text
                content += text
            case CallStarted(index, name):
                assert index == len(calls)
                calls.append((name, ""))
            case ArgumentsDelta(index, text):
                assert text
                assert index == len(calls) - 1
                name, before = calls[index]
                calls[index] = (name, before + text)
    return Reply(content, calls)


def streamed(parser: ToolParser, pieces: Iterable[str]) -> Reply:
    events = [event for piece in pieces for event in parser.push(piece)]
    return joined([*events, *parser.flush()])
