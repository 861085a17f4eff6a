"""Converts Anthropic's requests to the chat requests with the same meaning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from glmserve.api.anthropic.blocks import (
    AssistantBlock,
    DocumentBlockParam,
    SearchResultBlockParam,
    TextBlockParam,
    ToolResultBlockParam,
    ToolUseBlockParam,
    UserBlock,
)
from glmserve.api.anthropic.protocol import (
    AssistantMessageParam,
    CountTokensRequest,
    MessageParam,
    MessagesRequest,
    ToolChoiceAny,
    ToolChoiceNone,
    ToolChoiceTool,
    UserMessageParam,
)
from glmserve.api.anthropic.tools import ToolParam, functions
from glmserve.api.protocol import ChatCompletionRequest, parse_data
from glmserve.api.protocol.messages import MAX_CALLS
from glmserve.errors import InvalidRequestError

FIELD_NAMES = {
    "prompt": "messages",
    "response_format.json_schema.schema": "output_config.format.schema",
    "stop": "stop_sequences",
}
"""This API's names of chat request fields, for errors."""

_WITH_TEXT = (TextBlockParam, DocumentBlockParam, SearchResultBlockParam)


def chat_request(request: CountTokensRequest) -> ChatCompletionRequest:
    """The chat completion request with the same meaning.

    Raises:
        InvalidRequestError: a result belongs to no call, or fields contradict each other.
    """
    data = {
        "model": request.model,
        "messages": [*_system(request), *_messages(request)],
        "tools": [_tool(tool) for tool in functions(request.tools)],
        **_tool_choice(request),
        **_response_format(request),
        **_thinking(request),
    }
    if isinstance(request, MessagesRequest):
        data |= {
            "max_completion_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "stop": request.stop_sequences,
        }
    return parse_data(ChatCompletionRequest, data)


def _system(request: CountTokensRequest) -> list[dict[str, Any]]:
    system = request.system
    texts = [system] if isinstance(system, str) else [block.text for block in system or ()]
    return [{"role": "system", "content": text} for text in texts]


def _messages(request: CountTokensRequest) -> Iterator[dict[str, Any]]:
    call_ids: set[str] = set()
    for index, message in enumerate(request.messages):
        blocks = _blocks(message)
        text = "".join(block.text for block in blocks if isinstance(block, _WITH_TEXT))
        match message:
            case AssistantMessageParam():
                calls = [_call(block) for block in blocks if isinstance(block, ToolUseBlockParam)]
                if len(calls) > MAX_CALLS:
                    raise InvalidRequestError.about(
                        f"messages.{index}.content",
                        "{param}: more than {most} blocks are tool_use",
                        most=MAX_CALLS,
                    )
                call_ids.update(call["id"] for call in calls)
                yield {"role": "assistant", "content": text, "tool_calls": calls}
            case UserMessageParam():
                has_results = False
                for number, block in enumerate(blocks):
                    if isinstance(block, ToolResultBlockParam):
                        yield _result(block, call_ids, f"messages.{index}.content.{number}")
                        has_results = True
                if text or not has_results:
                    yield {"role": "user", "content": text}
            case _:
                yield {"role": "system", "content": text}


def _blocks(message: MessageParam) -> list[UserBlock | AssistantBlock]:
    if isinstance(message.content, str):
        return [TextBlockParam(type="text", text=message.content)]
    return [*message.content]


def _call(block: ToolUseBlockParam) -> dict[str, Any]:
    arguments = msgspec.json.encode(block.input).decode()
    return {"id": block.id, "function": {"name": block.name, "arguments": arguments}}


def _result(block: ToolResultBlockParam, call_ids: set[str], place: str) -> dict[str, Any]:
    if block.tool_use_id not in call_ids:
        raise InvalidRequestError.about(
            f"{place}.tool_use_id",
            "{param}: no tool_use with the id {call_id!r} comes before its tool_result",
            call_id=block.tool_use_id[:100],
        )
    content = block.content
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    text = f"Error: {text}" if block.is_error else text
    return {"role": "tool", "content": text, "tool_call_id": block.tool_use_id}


def _tool(tool: ToolParam) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
        "strict": tool.strict,
    }
    return {"type": "function", "function": function}


def _tool_choice(request: CountTokensRequest) -> dict[str, Any]:
    choice = request.tool_choice
    if choice is None:
        return {}
    if isinstance(choice, ToolChoiceNone):
        return {"tool_choice": "none"}
    parallel = not choice.disable_parallel_tool_use
    wanted: str | dict[str, Any] = "auto"
    if isinstance(choice, ToolChoiceAny):
        wanted = "required"
    elif isinstance(choice, ToolChoiceTool):
        wanted = {"type": "function", "function": {"name": choice.name}}
    return {"tool_choice": wanted, "parallel_tool_calls": parallel}


def _thinking(request: CountTokensRequest) -> dict[str, Any]:
    """A budget of thoughts is not passed on: Anthropic calls it a target, not a limit."""
    kind = (request.thinking or {}).get("type")
    return {"thinking": {"type": "disabled"}} if kind == "disabled" else {}


def _response_format(request: CountTokensRequest) -> dict[str, Any]:
    wanted = request.output_config.format or request.output_format
    if wanted is None:
        return {}
    spec = {"name": "output", "schema": wanted.schema_}
    return {"response_format": {"type": "json_schema", "json_schema": spec}}
