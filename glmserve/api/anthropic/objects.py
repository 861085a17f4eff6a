"""The objects and events of messages, as Anthropic has published them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType


class TextBlock(msgspec.Struct, tag_field="type", tag="text"):
    """Text."""

    text: str


class ToolUseBlock(msgspec.Struct, tag_field="type", tag="tool_use"):
    """A call."""

    id: str
    name: str
    input: dict[str, Any]


class ThinkingBlock(msgspec.Struct, tag_field="type", tag="thinking"):
    """What the model thinks before it answers."""

    thinking: str
    signature: str = ""
    """Always empty: thoughts that come back are left out, so none need be recognised."""


Block: TypeAlias = TextBlock | ToolUseBlock | ThinkingBlock

StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
]


class MessageUsage(msgspec.Struct):
    """Token counts. Tokens found in the prefix cache do not count as input tokens."""

    input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    """Always 0: additions to the cache are free."""


class MessageObject(msgspec.Struct, kw_only=True):
    """A message of the model's."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Block]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: MessageUsage


class TokenCount(msgspec.Struct):
    """How many tokens the model would read."""

    input_tokens: int


class MessageStart(msgspec.Struct, tag_field="type", tag="message_start"):
    """A message begins; it has no content yet."""

    message: MessageObject


class Ping(msgspec.Struct, tag_field="type", tag="ping"):
    """Keeps the connection alive."""


class ContentBlockStart(msgspec.Struct, tag_field="type", tag="content_block_start"):
    """A block of the content begins."""

    index: int
    content_block: Block


class TextDeltaObject(msgspec.Struct, tag_field="type", tag="text_delta"):
    """More text."""

    text: str


class ThinkingDelta(msgspec.Struct, tag_field="type", tag="thinking_delta"):
    """More thoughts."""

    thinking: str


class InputJsonDelta(msgspec.Struct, tag_field="type", tag="input_json_delta"):
    """More of a call's arguments."""

    partial_json: str


class ContentBlockDelta(msgspec.Struct, tag_field="type", tag="content_block_delta"):
    """More of a block."""

    index: int
    delta: TextDeltaObject | ThinkingDelta | InputJsonDelta


class ContentBlockStop(msgspec.Struct, tag_field="type", tag="content_block_stop"):
    """A block is complete."""

    index: int


class StopDelta(msgspec.Struct):
    """Why the message ends."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDeltaEvent(msgspec.Struct, tag_field="type", tag="message_delta"):
    """The message is complete."""

    delta: StopDelta
    usage: MessageUsage


class MessageStop(msgspec.Struct, tag_field="type", tag="message_stop"):
    """The stream ends."""


class AnthropicErrorDetail(msgspec.Struct):
    """What went wrong."""

    type: str
    message: str
    details: dict[str, Any] | UnsetType = UNSET
    """For programs."""


class AnthropicError(msgspec.Struct, tag_field="type", tag="error"):
    """The body of every error, in Anthropic's shape; also an event of a stream."""

    error: AnthropicErrorDetail
    request_id: str | None = None


ContentEvent: TypeAlias = ContentBlockStart | ContentBlockDelta | ContentBlockStop
Event: TypeAlias = (
    MessageStart | Ping | ContentEvent | MessageDeltaEvent | MessageStop | AnthropicError
)
