"""The objects that responses consist of, as OpenAI has published them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from glmserve.api.openai.chat_objects import ContentLogprob
from glmserve.api.openai.responses.input_items import ItemStatus


class InputText(msgspec.Struct, tag_field="type", tag="input_text"):
    """A piece of what a client says."""

    text: str


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    """A piece of what the model says."""

    text: str
    annotations: list[Any] = []
    logprobs: list[ContentLogprob] = []


class ReasoningText(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    """A piece of what the model thinks."""

    text: str


class ResponseReasoningItem(msgspec.Struct, kw_only=True, tag_field="type", tag="reasoning"):
    """What the model thinks before it answers."""

    id: str
    summary: list[Any] = []
    """Always empty: thoughts are there as they are."""
    content: list[ReasoningText]
    status: ItemStatus


class ResponseMessage(msgspec.Struct, kw_only=True, tag_field="type", tag="message"):
    """A message of any role."""

    id: str
    role: Literal["user", "system", "developer", "assistant"]
    status: ItemStatus
    content: list[InputText | OutputText]
    """Output texts of the assistant, input texts of all others."""


class ResponseFunctionCall(msgspec.Struct, kw_only=True, tag_field="type", tag="function_call"):
    """What the model calls; with a namespace if the tool was given in one."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    namespace: str | UnsetType = UNSET
    arguments: str


class ResponseFunctionOutput(
    msgspec.Struct, kw_only=True, tag_field="type", tag="function_call_output"
):
    """The result of a call."""

    id: str
    status: ItemStatus
    call_id: str
    output: str | list[InputText]


OutputItem: TypeAlias = ResponseMessage | ResponseFunctionCall | ResponseReasoningItem
Item: TypeAlias = OutputItem | ResponseFunctionOutput


class InputTokensDetails(msgspec.Struct):
    """Where the prompt's tokens came from."""

    cached_tokens: int
    """Found in the prefix cache."""
    cache_write_tokens: int = 0
    """Always 0: additions to the cache are free."""


class OutputTokensDetails(msgspec.Struct):
    """What the generated tokens are."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseFailure(msgspec.Struct):
    """Why there is no answer."""

    code: Literal["server_error"]
    message: str


class IncompleteDetails(msgspec.Struct):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseReasoning(msgspec.Struct):
    """As the request has it."""

    effort: str | None = None
    summary: str | None = None


ResponseStatus: TypeAlias = Literal[
    "queued", "in_progress", "completed", "incomplete", "failed", "cancelled"
]


class RawMessage(msgspec.Struct):
    """The prompt or the answer as text and as token ids, in vLLM's shape."""

    message: str
    tokens: list[int]
    type: Literal["raw_message_tokens"] = "raw_message_tokens"


class ResponseObject(msgspec.Struct, kw_only=True):
    """A response: what was asked for, and as much of the answer as there is."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: ResponseStatus = "in_progress"
    completed_at: int | None = None
    background: bool = False
    error: ResponseFailure | None = None
    frequency_penalty: float
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool
    presence_penalty: float
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ResponseReasoning
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled", "auto"]
    usage: ResponseUsage | None = None
    user: str | None
    metadata: dict[str, str]
    input_messages: list[RawMessage] | UnsetType = UNSET
    """Only if it is asked for, as is `output_messages`: the prompt."""
    output_messages: list[RawMessage] | UnsetType = UNSET
    """The answer, once it has ended."""


class DeletedResponse(msgspec.Struct):
    """Confirms that a response is deleted."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputTokenCount(msgspec.Struct):
    """The number of tokens that a request's prompt has."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


class InputItemList(msgspec.Struct, kw_only=True):
    """A page of the items that a response answers."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool
