"""Writes tools, calls and results as messages of text, for formats that only know text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from glmserve.text.chat_format import ChatMessage
from glmserve.text.tools import Tool, tagged


def with_instructions(messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[ChatMessage]:
    """The messages, with the tools explained at the end of the system text before them."""
    system = [m.content for m in takewhile(lambda m: m.role == "system", messages)]
    text = "\n\n".join((*system, tagged.instructions(tools)))
    return [ChatMessage("system", text), *messages[len(system) :]]


def without_tools(message: ChatMessage) -> ChatMessage:
    """The message as text: a result is the user's, and calls follow what the assistant said."""
    if message.role == "tool":
        return ChatMessage("user", tagged.result_text(message.content))
    said = [message.content] if message.content or not message.tool_calls else []
    text = "\n".join((*said, *map(tagged.call_text, message.tool_calls)))
    return replace(message, content=text, tool_calls=())
