"""From the messages of a request to the token ids that the model reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from glmserve.api.answering.bounds import check_characters
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.answering.truncation import truncated
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.api.protocol.messages import AssistantMessage, Message, ToolMessage
from glmserve.text.chat_format import ChatFormat, ChatMessage
from glmserve.text.tools import Tool, ToolCall

_ROLES = {"developer": "system"}

_MESSAGE_COST = 16
"""Characters that take as long to tokenise as the marks around a message."""


async def prompt_ids(
    server: ServerContext,
    chat_format: ChatFormat,
    chat: ChatCompletionRequest,
    tools: Sequence[Tool],
) -> list[int]:
    """Token ids of a conversation and the tools it offers, up to where the answer begins.

    Raises:
        InvalidRequestError: the conversation cannot be formatted, or is longer than any context.
    """
    variables = chat.template_variables
    bound = chat_format.with_variables(variables) if variables else chat_format
    conversation = chat_messages(chat.messages)
    size = num_characters(conversation, tools)
    check_characters(size, server.engine.info.limits.max_context, "messages")
    ids = await run_in_thread_if_large(
        partial(
            bound.render,
            conversation,
            tools,
            continue_last=chat.continues_last,
            begin_answer=chat.add_generation_prompt,
        ),
        size,
        always=chat_format.blocks,
    )
    if chat.truncate_prompt_tokens is None:
        return ids
    return truncated(server, chat, ids, chat.output_limit or 1)


def chat_messages(messages: Sequence[Message]) -> list[ChatMessage]:
    """The messages as plain data, as chat formats take them."""
    return [_chat_message(message) for message in messages]


def num_characters(messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
    """Characters to be tokenised, about."""
    of_messages = sum(
        len(m.content)
        + len(m.reasoning)
        + len(m.name or "")
        + _MESSAGE_COST
        + sum(len(call.arguments) for call in m.tool_calls)
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
            reasoning = message.reasoning_content or message.reasoning or ""
            return ChatMessage(role, message.text, calls, name=message.name, reasoning=reasoning)
        case ToolMessage():
            return ChatMessage(
                role, message.text, tool_call_id=message.tool_call_id, name=message.name
            )
        case _:
            return ChatMessage(role, message.text, name=message.name)
