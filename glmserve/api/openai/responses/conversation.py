"""Converts items to the chat request with the same meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from glmserve.api.journaling.identity import Identity
from glmserve.api.openai.responses.input_items import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputItem,
)
from glmserve.api.openai.responses.objects import (
    InputText,
    Item,
    OutputText,
    ResponseFunctionCall,
    ResponseFunctionOutput,
    ResponseMessage,
)
from glmserve.api.openai.responses.protocol import (
    FlatAllowedTools,
    FlatJsonSchemaFormat,
    FlatNamedTool,
    ResponsesRequest,
)
from glmserve.api.protocol import ChatCompletionRequest, GenerationRequest, parse_data
from glmserve.errors import InvalidRequestError

FIELD_NAMES = {
    "messages": "input",
    "prompt": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "response_format.json_schema.schema": "text.format.schema",
    "response_format.schema": "text.format.schema",
}
"""This API's names of chat request fields, for errors."""


def input_items(request: ResponsesRequest, identity: Identity) -> list[Item]:
    """The request's own input, each item with an id."""
    if isinstance(request.input, str):
        return [
            ResponseMessage(
                id=identity.new_id("msg_"),
                role="user",
                status="completed",
                content=[InputText(request.input)],
            )
        ]
    return [_item(item, identity) for item in request.input]


def num_parts(request: ResponsesRequest) -> int:
    """The number of parts of the input, which determines the work of converting it."""
    if isinstance(request.input, str):
        return 1
    return sum(
        1 if isinstance(item, FunctionCallItem | FunctionCallOutputItem) else len(item.content)
        for item in request.input
    )


def chat_request(request: ResponsesRequest, items: Sequence[Item]) -> ChatCompletionRequest:
    """The chat completion request with the same meaning.

    Args:
        request: everything but the conversation.
        items: the conversation, earlier turns and the input.

    Raises:
        InvalidRequestError: a result belongs to no call, or fields contradict each other.
    """
    system = []
    if request.instructions is not None:
        system = [{"role": "system", "content": request.instructions}]
    shared = GenerationRequest.model_fields.keys() & request.model_fields_set
    fields = {name: getattr(request, name) for name in shared - {"stream_options"}}
    return parse_data(
        ChatCompletionRequest,
        {
            **fields,
            "messages": [*system, *_messages(items)],
            "max_completion_tokens": request.max_output_tokens,
            "logprobs": bool(request.include),
            "top_logprobs": request.top_logprobs if request.include else None,
            "response_format": _response_format(request),
            "tools": [_tool(tool.model_dump(exclude={"type"})) for tool in request.tools],
            "tool_choice": _tool_choice(request),
            "parallel_tool_calls": request.parallel_tool_calls,
        },
    )


def _item(item: InputItem, identity: Identity) -> Item:
    match item:
        case FunctionCallItem():
            return ResponseFunctionCall(
                id=item.id or identity.new_id("fc_"),
                status=item.status,
                call_id=item.call_id,
                name=item.name,
                arguments=item.arguments,
            )
        case FunctionCallOutputItem(output=output):
            return ResponseFunctionOutput(
                id=item.id or identity.new_id("fco_"),
                status=item.status,
                call_id=item.call_id,
                output=output if isinstance(output, str) else [InputText(p.text) for p in output],
            )
        case _:
            content = item.content
            texts = [content] if isinstance(content, str) else [part.text for part in content]
            kind = OutputText if item.role == "assistant" else InputText
            return ResponseMessage(
                id=item.id or identity.new_id("msg_"),
                role=item.role,
                status=item.status,
                content=[kind(text) for text in texts],
            )


def _messages(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Calls join the assistant's message before them, as both are one answer."""
    messages: list[dict[str, Any]] = []
    call_ids = set()
    for item in items:
        match item:
            case ResponseFunctionCall():
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": ""})
                messages[-1].setdefault("tool_calls", []).append(_call(item))
                call_ids.add(item.call_id)
            case ResponseFunctionOutput(call_id=call_id, output=output):
                if call_id not in call_ids:
                    raise InvalidRequestError(
                        f"no function_call with call_id {call_id[:100]!r} comes before its "
                        "function_call_output",
                        "input",
                    )
                result = {"role": "tool", "content": _joined(output), "tool_call_id": call_id}
                messages.append(result)
            case ResponseMessage():
                messages.append({"role": item.role, "content": _joined(item.content)})
    return messages


def _call(item: ResponseFunctionCall) -> dict[str, Any]:
    return {"id": item.call_id, "function": {"name": item.name, "arguments": item.arguments}}


def _joined(content: str | Sequence[InputText | OutputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _response_format(request: ResponsesRequest) -> dict[str, Any]:
    wanted = request.text.format
    if not isinstance(wanted, FlatJsonSchemaFormat):
        return wanted.model_dump(by_alias=True, exclude_none=True)
    spec = wanted.model_dump(by_alias=True, exclude={"type"})
    return {"type": "json_schema", "json_schema": spec}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": function}


def _tool_choice(request: ResponsesRequest) -> str | dict[str, Any]:
    match request.tool_choice:
        case FlatNamedTool(name=name):
            return _tool({"name": name})
        case FlatAllowedTools(mode=mode, tools=tools):
            allowed = {"mode": mode, "tools": [_tool({"name": tool.name}) for tool in tools]}
            return {"type": "allowed_tools", "allowed_tools": allowed}
        case choice:
            return choice
