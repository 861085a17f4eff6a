"""The content of a message while it grows: its blocks, and the events that report them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from glmserve.api.anthropic.objects import (
    Block,
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    ContentEvent,
    InputJsonDelta,
    TextBlock,
    TextDeltaObject,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
)
from glmserve.api.journaling.identity import Identity
from glmserve.text.thoughts import AnswerEvent, ThoughtDelta
from glmserve.text.tools import ArgumentsDelta, CallStarted, ContentDelta


class Content:
    """Blocks in the order in which they are generated, one at a time."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.blocks: list[Block] = []
        """The text or input of the last block is set when the block ends."""
        self._is_open = False
        self._pieces: list[str] = []
        """Pieces of the last block's text, or of its input's JSON."""

    def push(self, events: Iterable[AnswerEvent]) -> list[ContentEvent]:
        """Add what is new; the events that report it."""
        told: list[ContentEvent] = []
        for event in events:
            match event:
                case ThoughtDelta(text):
                    if not self._is_in(ThinkingBlock):
                        told += self._begin(ThinkingBlock(""))
                    told.append(self._add(text, ThinkingDelta(text)))
                case ContentDelta(text):
                    if not self._is_in(TextBlock):
                        told += self._begin(TextBlock(""))
                    told.append(self._add(text, TextDeltaObject(text)))
                case CallStarted(_, name):
                    call_id = self._identity.new_id("toolu_", 24)
                    told += self._begin(ToolUseBlock(call_id, name, {}))
                case ArgumentsDelta(_, text):
                    told.append(self._add(text, InputJsonDelta(text)))
        return told

    def finish(self) -> list[ContentEvent]:
        """End the last block, if there is one."""
        if not self._is_open:
            return []
        self._is_open = False
        written, block = "".join(self._pieces), self.blocks[-1]
        self._pieces.clear()
        match block:
            case TextBlock():
                block.text = written
            case ThinkingBlock():
                block.thinking = written
            case ToolUseBlock():
                block.input = _input(written)
        return [ContentBlockStop(len(self.blocks) - 1)]

    def _is_in(self, kind: type[Block]) -> bool:
        """Whether the last block is of this kind, and goes on."""
        return self._is_open and isinstance(self.blocks[-1], kind)

    def _begin(self, block: Block) -> list[ContentEvent]:
        told = self.finish()
        self.blocks.append(block)
        self._is_open = True
        return [*told, ContentBlockStart(len(self.blocks) - 1, msgspec.structs.replace(block))]

    def _add(
        self, text: str, delta: TextDeltaObject | ThinkingDelta | InputJsonDelta
    ) -> ContentEvent:
        self._pieces.append(text)
        return ContentBlockDelta(len(self.blocks) - 1, delta)


def _input(arguments: str) -> dict[str, Any]:
    """The arguments as an object.

    What was cut or never was one is kept as text, as Anthropic advises for invalid JSON.
    """
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {"INVALID_JSON": arguments}
