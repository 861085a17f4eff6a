"""A request's messages as chat formats know them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from glmserve.api.protocol.messages import AssistantMessage, Message, ToolMessage
from glmserve.text.chat_format import ChatMessage
from glmserve.text.tools import Tool, ToolCall

_ROLES = {"developer": "system"}

_MESSAGE_COST = 16
"""Characters that take about as long to tokenise as what is around a message."""


def chat_messages(messages: Sequence[Message]) -> list[ChatMessage]:
    """The same conversation in plain data."""
    return [_chat_message(message) for message in messages]


def num_characters(messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
    """About how much text there is to be tokenised."""
    of_messages = sum(
        len(m.content) + _MESSAGE_COST + sum(len(call.arguments) for call in m.tool_calls)
        for m in messages
    )
    of_tools = sum(len(msgspec.json.encode(tool.signature())) for tool in tools)
    return of_messages + of_tools


def _chat_message(message: Message) -> ChatMessage:
    role = _ROLES.get(message.role, message.role)
    match message:
        case AssistantMessage():
            calls = tuple(
                ToolCall(call.id, call.function.name, call.function.arguments)
                for call in message.tool_calls
            )
            return ChatMessage(role, message.text, calls)
        case ToolMessage():
            return ChatMessage(role, message.text, tool_call_id=message.tool_call_id)
        case _:
            return ChatMessage(role, message.text)
