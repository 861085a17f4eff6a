"""The interface of chat formats: conversations to prompt ids, responses to text and tool calls.

The formats are in `plain_formats.py` and `role_formats.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
    """One message of a conversation. The API maps its own roles to ROLES."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """The assistant's calls, after `content`."""
    tool_call_id: str | None = None
    """Id of the call that a message with the role "tool" answers."""
    name: str | None = None
    """The participant's name, or the tool's. Only a checkpoint's own template may write it."""
    reasoning: str = ""
    """What the assistant thought before. Only a checkpoint's own template may write it."""


class ChatFormat(ABC):
    """Renders conversations for one tokenizer, and parses responses.

    Raises:
        CheckpointError: the tokenizer lacks a token that the format needs.
    """

    name: ClassVar[str]
    required_tokens: ClassVar[tuple[str, ...]] = ()
    stop_tokens: ClassVar[tuple[str, ...]] = ()
    """Special tokens that end a response, besides the tokenizer's end token."""
    lead_in: ClassVar[str] = r"\n? ?"
    """A regex of the whitespace that the model may write first and the response filter removes."""
    calls_anywhere: ClassVar[bool] = True
    """Whether a call may follow text in a response. If not, a continued message has no calls."""

    reasons: bool = False
    """Whether the model may write thoughts before its answer; see `thoughts.py`."""

    blocks: ClassVar[bool] = False
    """Whether rendering waits for another process, so that the event loop must not call it."""

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

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Tool] = (),
        *,
        continue_last: bool = False,
        begin_answer: bool = True,
    ) -> list[int]:
        """Prompt ids for the next assistant message, which may call `tools`.

        Calls and results of earlier turns are rendered even if `tools` is empty.

        Args:
            continue_last: the last message is the assistant's, without calls, and the answer
                continues its text.
            begin_answer: end with what stands before a new answer. Else the ids end with the last
                message. Without effect if that is continued.

        Raises:
            InvalidRequestError: the conversation cannot be written in this format.
        """
        if not messages:
            raise InvalidRequestError("there must be at least one message", param="messages")
        for message in messages:
            if message.role not in ROLES:
                raise InvalidRequestError(
                    f"the role {message.role!r} is not one of {', '.join(ROLES)}", param="messages"
                )
        ordered = in_order_of_calls(messages)
        if not continue_last:
            render = self._render if begin_answer else self._render_closed
            return render(ordered, tools)
        return self._render_open(ordered[:-1], tools, ordered[-1].content)

    def with_variables(self, variables: Mapping[str, Any]) -> ChatFormat:
        """This format with values for variables of its template. Formats without a template have no
        variables but `enable_thinking`, if the model reasons."""
        return self

    def close(self) -> None:  # noqa: B027  # most formats hold nothing
        """Release what the format holds outside of this process."""

    @abstractmethod
    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        """Like `render`, for checked messages, perhaps none, and a new answer."""

    @abstractmethod
    def _render_closed(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        """Like `_render`, without the beginning of an answer."""

    def _render_open(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool], begun: str
    ) -> list[int]:
        """Like `_render`, for an answer that begins with the text `begun`.

        The text is encoded alone, as it was in training.
        """
        return [*self._render(messages, tools), *self.tokenizer.encode(begun)]

    def response_filter(self) -> ResponseFilter:
        """A new filter for one response. It runs before the search for stop strings."""
        return FilterChain((StripLeading(), *self._rewrites()))

    def continuation_filter(self) -> ResponseFilter:
        """A new filter for a response that continues a message; its leading whitespace is kept."""
        return FilterChain(self._rewrites())

    def _rewrites(self) -> tuple[ResponseFilter, ...]:
        """The filters that rewrite text of this format."""
        return (ReplaceTrainingDate(),)

    @abstractmethod
    def tool_parser(self, tools: Sequence[Tool]) -> ToolParser:
        """A new parser for one response. It reads the filtered text."""

    def tool_grammar(
        self,
        tools: Sequence[Tool],
        *,
        parallel: bool,
        or_text: bool = False,
        or_json: str | None = None,
    ) -> str:
        """A Lark grammar (llguidance's dialect) of unfiltered responses that call `tools`.

        Args:
            parallel: allow several calls, if the model can write several.
            or_text: also allow a response that is text, but no call of any other tool.
            or_json: also allow a response that is JSON; see `embedded_schema`.

        Raises:
            InvalidRequestError: there are no tools, or the parameters of one are not an object.
        """
        if not tools:
            raise InvalidRequestError("a call is required, but there are no tools", param="tools")
        return self._tool_grammar(tools, parallel=parallel, or_text=or_text, or_json=or_json)

    @abstractmethod
    def _tool_grammar(
        self, tools: Sequence[Tool], *, parallel: bool, or_text: bool, or_json: str | None
    ) -> str:
        """Like `tool_grammar`, for at least one tool."""


def in_order_of_calls(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Sort consecutive tool results into the order of their calls.

    Clients may add results in any order, but these formats do not say which result answers which
    call. Results of unknown calls come last.
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
