"""The structure that constrains a chat answer: the requested one, or calls of its tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.structure_spec import StructureSpec, compile_structure, structure_spec
from glmserve.api.answering.tool_choice import ToolUse
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.errors import InvalidRequestError
from glmserve.text.chat_format import ChatFormat
from glmserve.text.structure import CompiledStructure, Lark, Without, checked_schema
from glmserve.text.tools import Tool

_ANY_OBJECT = {"type": "object", "additionalProperties": True}


async def answer_structure(
    server: ServerContext,
    chat: ChatCompletionRequest,
    chat_format: ChatFormat,
    use: ToolUse,
    stop_ids: frozenset[int],
) -> CompiledStructure | None:
    """The constraint that the request needs; None if the model is free.

    If a call is required, the answer consists of calls alone. If no call is required, but some
    tool is strict, then text that begins as a call must become a valid call.

    Raises:
        InvalidRequestError: it cannot be honoured.
    """
    spec = structure_spec(chat, chat.response_format)
    if not use.needs_grammar:
        _check_room_for_calls(spec, use)
        return await compile_structure(server, spec, stop_ids, chat_format.lead_in)
    if spec is not None:
        raise InvalidRequestError.about(
            spec.param, "{param} cannot be combined with a tool call that is required or strict"
        )

    async def compile_calls(tools: Sequence[Tool]) -> CompiledStructure | None:
        grammar = chat_format.tool_grammar(
            tools, parallel=use.parallel, or_text=not use.is_required
        )
        lead_in = chat_format.lead_in if use.is_required else ""
        return await compile_structure(
            server, StructureSpec(Lark(grammar), "tools"), stop_ids, lead_in
        )

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
    """Whether the text must stay as generated, because a rewrite could break its structure."""
    spec = structure_spec(chat, chat.response_format)
    free = structure is None or (spec is not None and isinstance(spec.structure, Without))
    return not free


def _check_room_for_calls(spec: StructureSpec | None, use: ToolUse) -> None:
    if use.offered and spec is not None and not isinstance(spec.structure, Without):
        raise InvalidRequestError.about(
            spec.param,
            "{param} leaves no room for tool calls; send tool_choice 'none' with it, or no tools",
        )


def _is_guaranteed(tool: Tool) -> bool:
    """Whether a grammar can guarantee the tool's parameters."""
    try:
        checked_schema(tool.schema())
    except InvalidRequestError:
        return False
    return True


def _relaxed(tool: Tool) -> Tool:
    """The tool if it is strict; otherwise the tool with any arguments."""
    return tool if tool.strict else replace(tool, parameters=_ANY_OBJECT)
