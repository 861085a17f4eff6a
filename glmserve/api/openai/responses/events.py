"""The events of a streamed response, as OpenAI has published them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from glmserve.api.openai.responses.objects import (
    OutputItem,
    OutputText,
    ReasoningText,
    ResponseObject,
)


class _Event(msgspec.Struct, kw_only=True):
    type: str
    sequence_number: int = -1
    """The event's place in the stream; set when it is sent."""


class ResponseEvent(_Event, kw_only=True):
    """The response changes its state."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: ResponseObject


class OutputItemEvent(_Event, kw_only=True):
    """An item begins or is complete."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class ContentPartEvent(_Event, kw_only=True):
    """The text of a message, or of thoughts, begins or is complete."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    item_id: str
    output_index: int
    content_index: int = 0
    part: OutputText | ReasoningText


class EventTopLogprob(msgspec.Struct):
    """One of the most likely tokens."""

    token: str
    logprob: float


class EventLogprob(msgspec.Struct):
    """A token and how likely it was."""

    token: str
    logprob: float
    top_logprobs: list[EventTopLogprob]


class TextDeltaEvent(_Event, kw_only=True):
    """More text."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    item_id: str
    output_index: int
    content_index: int = 0
    delta: str
    logprobs: list[EventLogprob]


class TextDoneEvent(_Event, kw_only=True):
    """All of the text."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    item_id: str
    output_index: int
    content_index: int = 0
    text: str
    logprobs: list[EventLogprob]


class ReasoningDeltaEvent(_Event, kw_only=True):
    """More thoughts."""

    type: Literal["response.reasoning_text.delta"] = "response.reasoning_text.delta"
    item_id: str
    output_index: int
    content_index: int = 0
    delta: str


class ReasoningDoneEvent(_Event, kw_only=True):
    """All of the thoughts."""

    type: Literal["response.reasoning_text.done"] = "response.reasoning_text.done"
    item_id: str
    output_index: int
    content_index: int = 0
    text: str


class ArgumentsDeltaEvent(_Event, kw_only=True):
    """More of a call's arguments."""

    type: Literal["response.function_call_arguments.delta"] = (
        "response.function_call_arguments.delta"
    )
    item_id: str
    output_index: int
    delta: str


class ArgumentsDoneEvent(_Event, kw_only=True):
    """All of a call's arguments."""

    type: Literal["response.function_call_arguments.done"] = "response.function_call_arguments.done"
    item_id: str
    output_index: int
    arguments: str


class ErrorEvent(_Event, kw_only=True):
    """The stream has failed."""

    type: Literal["error"] = "error"
    code: str | None
    message: str
    param: str | None


Event: TypeAlias = (
    ResponseEvent
    | OutputItemEvent
    | ContentPartEvent
    | TextDeltaEvent
    | TextDoneEvent
    | ReasoningDeltaEvent
    | ReasoningDoneEvent
    | ArgumentsDeltaEvent
    | ArgumentsDoneEvent
    | ErrorEvent
)
