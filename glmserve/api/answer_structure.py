"""What holds an answer to what a chat request guarantees: a structure, or calls of its tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from glmserve.api.context import ServerContext
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.api.structured import Wanted, compile_structure, wanted_structure
from glmserve.api.tool_choice import ToolUse
from glmserve.errors import InvalidRequestError
from glmserve.text.chat_format import ChatFormat
from glmserve.text.structure import CompiledStructure, Lark, Without, checked_schema
from glmserve.text.tools import Tool

_ANY_OBJECT = {"type": "object", "additionalProperties": True}


async def answer_structure(
    context: ServerContext,
    chat: ChatCompletionRequest,
    chat_format: ChatFormat,
    use: ToolUse,
    stop_ids: frozenset[int],
) -> CompiledStructure | None:
    """The constraint that the request needs; None where the model is free.

    Where a call is required, the answer is calls alone. Where it is not, but some tool is strict,
    what begins as a call must become one.

    Raises:
        InvalidRequestError: it cannot be honoured.
    """
    wanted = wanted_structure(chat, chat.response_format)
    if not use.needs_grammar:
        _check_room_for_calls(wanted, use)
        return await compile_structure(context, wanted, stop_ids, chat_format.lead_in)
    if wanted is not None:
        raise InvalidRequestError(
            f"{wanted.param} cannot be combined with a tool call that is required or strict",
            wanted.param,
        )

    async def compile_calls(tools: Sequence[Tool]) -> CompiledStructure | None:
        grammar = chat_format.tool_grammar(
            tools, parallel=use.parallel, or_text=not use.is_required
        )
        lead_in = chat_format.lead_in if use.is_required else ""
        return await compile_structure(context, Wanted(Lark(grammar), "tools"), stop_ids, lead_in)

    try:
        return await compile_calls(use.offered)
    except InvalidRequestError:
        tools = [tool if _is_guaranteed(tool) else _relaxed(tool) for tool in use.offered]
        if tools == use.offered:  # each can be honoured alone, all together are too much
            tools = [_relaxed(tool) for tool in use.offered]
        if tools == use.offered:
            raise
        return await compile_calls(tools)


def keeps_text(structure: CompiledStructure | None, chat: ChatCompletionRequest) -> bool:
    """Whether nothing may be changed about the text any more."""
    wanted = wanted_structure(chat, chat.response_format)
    free = structure is None or (wanted is not None and isinstance(wanted.structure, Without))
    return not free


def _check_room_for_calls(wanted: Wanted | None, use: ToolUse) -> None:
    if use.offered and wanted is not None and not isinstance(wanted.structure, Without):
        raise InvalidRequestError(
            f"{wanted.param} leaves no room for tool calls; send tool_choice 'none' with it, or "
            "no tools",
            wanted.param,
        )


def _is_guaranteed(tool: Tool) -> bool:
    """Whether arguments can be held to the tool's parameters."""
    try:
        checked_schema(tool.schema())
    except InvalidRequestError:
        return False
    return True


def _relaxed(tool: Tool) -> Tool:
    """A tool that is not strict, with whatever arguments the model finds right."""
    return tool if tool.strict else replace(tool, parameters=_ANY_OBJECT)
