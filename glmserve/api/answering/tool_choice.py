"""The tools that a request offers to the model, and whether one of them must be called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from glmserve.api.protocol import ChatCompletionRequest
from glmserve.api.protocol.tools import AllowedToolsChoice, AnyTool, NamedTool, ToolModel
from glmserve.errors import InvalidRequestError
from glmserve.text.chat_format import ChatFormat
from glmserve.text.tools import Tool


class ToolUse(NamedTuple):
    """The combined effect of tools, tool_choice and parallel_tool_calls."""

    offered: list[Tool]
    is_required: bool
    parallel: bool
    """Whether one answer may have several calls."""
    needs_grammar: bool
    """Whether a grammar must constrain calls to their tools."""


_NONE = ToolUse([], is_required=False, parallel=True, needs_grammar=False)


def tool_use(chat: ChatCompletionRequest) -> ToolUse:
    """The tools that the model is shown.

    Raises:
        InvalidRequestError: see `known_tools`; or tool_choice names none of them.
    """
    tools = {tool.name: tool for tool in known_tools(chat.tools)}
    choice = chat.tool_choice or "auto"
    if choice == "none" or (not tools and choice == "auto"):
        return _NONE
    if not tools:
        raise InvalidRequestError.about(
            "tool_choice", "{param} asks for a call, and the request offers no function to call"
        )
    match choice:
        case NamedTool(function=function):
            names, is_required = [function.name], True
        case AllowedToolsChoice(allowed_tools=allowed):
            names = [tool.function.name for tool in allowed.tools]
            is_required = allowed.mode == "required"
        case _:
            names, is_required = list(tools), choice == "required"
    for name in names:
        if name not in tools:
            raise InvalidRequestError(f"there is no tool named {name!r}", "tool_choice")
    # A named tool is meant to be called once, as at OpenAI.
    parallel = chat.parallel_tool_calls and not isinstance(choice, NamedTool)
    offered = [tools[name] for name in names]
    needs_grammar = is_required or any(tool.strict for tool in offered)
    return ToolUse(offered, is_required, parallel, needs_grammar)


def possible_use(chat: ChatCompletionRequest, chat_format: ChatFormat, offer: ToolUse) -> ToolUse:
    """The calls that the answer may have: none in a continued message, in some formats.

    Args:
        offer: see `tool_use`.

    Raises:
        InvalidRequestError: a call is required, but impossible.
    """
    if not offer.offered or not chat.begun_answer or chat_format.calls_anywhere:
        return offer
    if offer.is_required:
        raise InvalidRequestError(
            "tool_choice: this model calls tools at the beginning of a message, so none can be "
            "required in a message that is continued",
            "tool_choice",
        )
    return _NONE


def known_tools(tools: Sequence[AnyTool]) -> list[Tool]:
    """The functions among the tools, as the text layer knows them.

    Raises:
        InvalidRequestError: two tools have one name, or parameters are not of type object.
    """
    known = [_tool(tool) for tool in tools if isinstance(tool, ToolModel)]
    if len({tool.name for tool in known}) < len(known):
        raise InvalidRequestError("two tools have the same name", "tools")
    return known


def _tool(tool: ToolModel) -> Tool:
    function = tool.function
    made = Tool(function.name, function.description, function.parameters, function.strict)
    made.schema()  # refuses parameters that are not those of an object
    return made
