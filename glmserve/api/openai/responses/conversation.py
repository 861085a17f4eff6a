"""Converts items to the chat request with the same meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET

from glmserve.api.journaling.identity import Identity
from glmserve.api.openai.responses.input_items import (
    CustomCallItem,
    FunctionCallItem,
    FunctionCallOutputItem,
    InputItem,
    ItemReference,
    MessageItem,
    ReasoningItem,
    UnreadableItem,
)
from glmserve.api.openai.responses.objects import (
    InputText,
    Item,
    OutputText,
    ResponseFunctionCall,
    ResponseFunctionOutput,
    ResponseMessage,
)
from glmserve.api.openai.responses.protocol import FlatJsonSchemaFormat, ResponsesRequest
from glmserve.api.openai.responses.tools import (
    FlatAllowedTools,
    FlatNamedTool,
    FlatToolChoice,
    Functions,
    UnavailableTool,
)
from glmserve.api.protocol import ChatCompletionRequest, GenerationRequest, parse_data
from glmserve.api.protocol.messages import MAX_CALLS
from glmserve.api.protocol.thinking import ThinkingFields
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


FindItem: TypeAlias = Callable[[str], Item | None]
"""An item of the stored responses, by its id."""


def input_items(request: ResponsesRequest, identity: Identity, find: FindItem) -> list[Item]:
    """The request's own input, each item with an id. What the model cannot read is left out.

    Raises:
        InvalidRequestError: there is no item that a reference names.
    """
    if isinstance(request.input, str):
        return [
            ResponseMessage(
                id=identity.new_id("msg_"),
                role="user",
                status="completed",
                content=[InputText(request.input)],
            )
        ]
    return [_item(request.input[index], identity, find, index) for index in _read(request)]


def _read(request: ResponsesRequest) -> list[int]:
    """The indices of the input's items that the model reads."""
    if isinstance(request.input, str):
        return []
    unread = (ReasoningItem, UnreadableItem)
    return [index for index, item in enumerate(request.input) if not isinstance(item, unread)]


def left_out(request: ResponsesRequest) -> list[str]:
    """The types of tools and items that do not exist here, each once."""
    items = [] if isinstance(request.input, str) else request.input
    unknown = (UnavailableTool, UnreadableItem)
    types = [each.type for each in (*request.tools, *items) if isinstance(each, unknown)]
    return list(dict.fromkeys(types))


def num_parts(request: ResponsesRequest) -> int:
    """The number of parts of the input, which determines the work of converting it."""
    if isinstance(request.input, str):
        return 1
    return sum(len(item.content) if isinstance(item, MessageItem) else 1 for item in request.input)


def chat_request(
    request: ResponsesRequest, functions: Functions, items: Sequence[Item]
) -> ChatCompletionRequest:
    """The chat completion request with the same meaning.

    Args:
        request: everything but the conversation.
        functions: those that the request offers.
        items: the conversation, earlier turns and the input.

    Raises:
        InvalidRequestError: a result belongs to no call, or fields contradict each other.
    """
    system = []
    if request.instructions is not None:
        system = [{"role": "system", "content": request.instructions}]
    messages = _messages(request, functions, items)
    if not messages and not system:
        raise InvalidRequestError.about(
            "input", "{param}: the model reads none of these items; send a message with them"
        )
    known = {*GenerationRequest.model_fields, *ThinkingFields.model_fields}
    shared = (known & request.model_fields_set) - {"reasoning"}
    fields = {name: getattr(request, name) for name in shared - {"stream_options"}}
    return parse_data(
        ChatCompletionRequest,
        {
            **fields,
            "messages": [*system, *messages],
            "max_completion_tokens": request.max_output_tokens,
            "logprobs": request.wants_logprobs,
            "top_logprobs": request.top_logprobs if request.wants_logprobs else None,
            "response_format": _response_format(request),
            "tools": [
                _tool({**function.model_dump(exclude={"type"}), "name": name})
                for name, function in functions.offered
            ],
            "tool_choice": _tool_choice(request.tool_choice, functions),
            "parallel_tool_calls": request.parallel_tool_calls,
            "chat_template_kwargs": request.chat_template_kwargs,
            **_effort(request),
        },
    )


def _effort(request: ResponsesRequest) -> dict[str, Any]:
    effort = request.reasoning and request.reasoning.effort
    return {} if effort is None else {"reasoning_effort": effort}


def _item(item: InputItem, identity: Identity, find: FindItem, index: int) -> Item:
    match item:
        case ItemReference(id=reference):
            return _found(reference, find, index)
        case FunctionCallItem() | CustomCallItem():
            return ResponseFunctionCall(
                id=item.id or identity.new_id("fc_"),
                status=item.status,
                call_id=item.call_id,
                name=item.name,
                namespace=UNSET if item.namespace is None else item.namespace,
                arguments=_arguments(item),
            )
        case FunctionCallOutputItem(output=output):
            return ResponseFunctionOutput(
                id=item.id or identity.new_id("fco_"),
                status=item.status,
                call_id=item.call_id,
                output=output if isinstance(output, str) else [InputText(p.text) for p in output],
            )
        case MessageItem(content=content):
            texts = [content] if isinstance(content, str) else [part.text for part in content]
            kind = OutputText if item.role == "assistant" else InputText
            return ResponseMessage(
                id=item.id or identity.new_id("msg_"),
                role=item.role,
                status=item.status,
                content=[kind(text) for text in texts],
            )
    raise AssertionError(item)  # _read leaves the others out


def _arguments(call: FunctionCallItem | CustomCallItem) -> str:
    """The arguments as the text of a JSON object."""
    if isinstance(call, FunctionCallItem):
        return call.arguments
    return msgspec.json.encode({"input": call.input}).decode()


def _found(reference: str, find: FindItem, index: int) -> Item:
    item = find(reference)
    if item is None:
        raise InvalidRequestError.about(
            f"input.{index}.id",
            "{param}: there is no item {reference!r} here, or no longer; send the item itself",
            reference=reference[:100],
        )
    return item


class _Conversation:
    """Puts messages together. Calls join the assistant's message before them, as both are one
    answer."""

    def __init__(self, functions: Functions) -> None:
        self.messages: list[dict[str, Any]] = []
        self._functions = functions
        self._call_ids: set[str] = set()

    def add(self, item: Item, place: str) -> None:
        """Add an item.

        Args:
            place: its path in the request, for errors.

        Raises:
            InvalidRequestError: it is a result that belongs to no call, or one call too many.
        """
        match item:
            case ResponseFunctionCall():
                self._add_call(item, place)
            case ResponseFunctionOutput(call_id=call_id, output=output):
                if call_id not in self._call_ids:
                    raise InvalidRequestError.about(
                        f"{place}.call_id",
                        "{param}: no function_call with call_id {call_id!r} comes before its "
                        "function_call_output",
                        call_id=call_id[:100],
                    )
                result = {"role": "tool", "content": _joined(output), "tool_call_id": call_id}
                self.messages.append(result)
            case ResponseMessage():
                self.messages.append({"role": item.role, "content": _joined(item.content)})

    def _add_call(self, item: ResponseFunctionCall, place: str) -> None:
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": ""})
        calls = self.messages[-1].setdefault("tool_calls", [])
        if len(calls) == MAX_CALLS:
            raise InvalidRequestError.about(
                place, "{param}: more than {most} calls follow each other", most=MAX_CALLS
            )
        calls.append(_call(item, self._functions))
        self._call_ids.add(item.call_id)


def _messages(
    request: ResponsesRequest, functions: Functions, items: Sequence[Item]
) -> list[dict[str, Any]]:
    """The items as messages. The request's own items are the last ones."""
    conversation, own = _Conversation(functions), _read(request)
    for number, item in enumerate(items, len(own) - len(items)):
        conversation.add(item, f"input.{own[number]}" if own and number >= 0 else "input")
    return conversation.messages


def _call(item: ResponseFunctionCall, functions: Functions) -> dict[str, Any]:
    name = functions.shown(item.name, None if item.namespace is UNSET else item.namespace)
    return {"id": item.call_id, "function": {"name": name, "arguments": item.arguments}}


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


def _tool_choice(choice: FlatToolChoice, functions: Functions) -> str | dict[str, Any]:
    match choice:
        case FlatNamedTool():
            return _named(choice, functions)
        case FlatAllowedTools(mode=mode, tools=tools):
            allowed = {"mode": mode, "tools": [_named(tool, functions) for tool in tools]}
            return {"type": "allowed_tools", "allowed_tools": allowed}
        case _:
            return choice


def _named(tool: FlatNamedTool, functions: Functions) -> dict[str, Any]:
    return _tool({"name": functions.shown(tool.name, tool.namespace)})
