"""Chat messages to prompt ids, and what comes back to text and calls: one class per form.

The forms themselves are in `plain_formats.py` and `role_formats.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from glmserve.errors import CheckpointError, InvalidRequestError
from glmserve.text.response_filter import (
    FilterChain,
    ReplaceTrainingDate,
    ResponseFilter,
    StripLeading,
)
from glmserve.text.tokenizer import Tokenizer
from glmserve.text.tools import Tool, ToolCall, ToolParser

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class ChatMessage:
    """One message of a conversation; the API has mapped its own roles to these."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """What an assistant called, after saying `content`."""
    tool_call_id: str | None = None
    """The call that a message of the role "tool" answers."""


class ChatFormat(ABC):
    """Renders conversations for one tokenizer and reads what comes back."""

    name: ClassVar[str]
    required_tokens: ClassVar[tuple[str, ...]] = ()
    stop_tokens: ClassVar[tuple[str, ...]] = ()
    """Special tokens that end a response, besides the tokenizer's end token."""
    lead_in: ClassVar[str] = r"\n? ?"
    """A regex of what the model may write before its text and the response filter removes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        for name in (*self.required_tokens, *self.stop_tokens):
            if name not in tokenizer.special_ids:
                raise CheckpointError(
                    f"the chat format {self.name} needs the token {name}, which this "
                    "checkpoint's tokenizer does not have; --chat-format can name another"
                )
        self.tokenizer = tokenizer
        self.stop_ids = frozenset(tokenizer.special_ids[name] for name in self.stop_tokens) | {
            tokenizer.eos_id
        }

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> list[int]:
        """Prompt ids that ask for the next assistant message, which may call `tools`.

        Calls and results of earlier turns are rendered whether there still are tools or not.

        Raises:
            InvalidRequestError: the conversation has no form in this format.
        """
        if not messages:
            raise InvalidRequestError("there must be at least one message", param="messages")
        for message in messages:
            if message.role not in ROLES:
                raise InvalidRequestError(
                    f"the role {message.role!r} is not one of {', '.join(ROLES)}", param="messages"
                )
        return self._render(in_order_of_calls(messages), tools)

    @abstractmethod
    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        """As `render`, for messages that have been checked."""

    def response_filter(self) -> ResponseFilter:
        """A new filter for one response, to be applied before stop strings are looked for."""
        return FilterChain((StripLeading(), ReplaceTrainingDate()))

    @abstractmethod
    def tool_parser(self, tools: Sequence[Tool]) -> ToolParser:
        """A new parser for one response, to be applied to its filtered text."""

    def tool_grammar(self, tools: Sequence[Tool], *, parallel: bool, or_text: bool = False) -> str:
        """llguidance's Lark text that a response must match, unfiltered, to be a call of `tools`.

        `parallel` allows several calls where the model can write several. `or_text` allows a
        response that is text, too, but no call that is none of `tools`.

        Raises:
            InvalidRequestError: there are no tools, or one's parameters are not an object's.
        """
        if not tools:
            raise InvalidRequestError("a call is required, but there are no tools", param="tools")
        return self._tool_grammar(tools, parallel=parallel, or_text=or_text)

    @abstractmethod
    def _tool_grammar(self, tools: Sequence[Tool], *, parallel: bool, or_text: bool) -> str:
        """As `tool_grammar`, for at least one tool."""


def in_order_of_calls(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Results that follow each other, in the order of their calls.

    Clients add results as they come in, but no format of these models says which result answers
    which call. Results that answer no call known so far come after the others.
    """
    ordered: list[ChatMessage] = []
    results: list[ChatMessage] = []
    position: dict[str | None, int] = {}

    def add_results() -> None:
        results.sort(key=lambda result: position.get(result.tool_call_id, len(position)))
        ordered.extend(results)
        results.clear()

    for message in messages:
        if message.role == "tool":
            results.append(message)
            continue
        add_results()
        ordered.append(message)
        for call in message.tool_calls:
            position[call.id] = len(position)
    add_results()
    return ordered
