"""What a template reads: messages and tools in the shape that transformers gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glmserve.text.chat_format import ChatMessage
from glmserve.text.tools import Tool, ToolCall
from glmserve.text.tools.json_text import read_json

Rewrite = Callable[[str], str]


def unchanged(text: str) -> str:
    """The Rewrite that leaves texts as they are."""
    return text


def variables(
    messages: Sequence[ChatMessage],
    tools: Sequence[Tool] = (),
    own: Mapping[str, Any] = {},
    *,
    begin_answer: bool = True,
    content: Rewrite = unchanged,
    inner: Rewrite = unchanged,
) -> dict[str, Any]:
    """The variables of a conversation.

    Args:
        own: further variables, of the request.
        begin_answer: see ChatFormat.render.
        content: applied to the content of each message.
        inner: applied to each other text of a user's, names of properties included.
    """
    offered = [{"type": "function", "function": _deep(t.signature(), inner)} for t in tools]
    return {
        **{name: _deep(value, inner) for name, value in own.items()},
        "messages": [_message(message, content, inner) for message in messages],
        "tools": offered or None,
        "documents": None,
        "add_generation_prompt": begin_answer,
    }


def _message(message: ChatMessage, content: Rewrite, inner: Rewrite) -> dict[str, Any]:
    data: dict[str, Any] = {"role": message.role, "content": content(message.content)}
    if message.tool_calls:
        data["tool_calls"] = [_call(call, inner) for call in message.tool_calls]
    if message.name is not None:
        data["name"] = inner(message.name)
    if message.reasoning:
        data["reasoning_content"] = inner(message.reasoning)
    if message.tool_call_id is not None:
        data["tool_call_id"] = inner(message.tool_call_id)
    return data


def _call(call: ToolCall, inner: Rewrite) -> dict[str, Any]:
    """A past call; its arguments are an object, as templates expect, if they are valid JSON."""
    try:
        arguments = read_json(call.arguments.strip() or "{}")
    except ValueError:
        arguments = call.arguments
    function = {"name": inner(call.name), "arguments": _deep(arguments, inner)}
    return {"id": inner(call.id), "type": "function", "function": function}


def _deep(value: Any, rewrite: Rewrite) -> Any:
    if isinstance(value, str):
        return rewrite(value)
    if isinstance(value, dict):
        return {rewrite(key): _deep(part, rewrite) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_deep(part, rewrite) for part in value]
    return value
