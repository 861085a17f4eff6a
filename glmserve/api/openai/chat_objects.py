"""The objects that chat completions answer with, as OpenAI has published them.

Fields that may be null are there as null; fields that may be absent are UNSET. Other fields
are vLLM's: null in a whole response, and absent in a stream, unless they are asked for.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from glmserve.api.answering.usage import Usage
from glmserve.api.openai.prompt_logprobs import PromptLogprobs


class TokenLogprob(msgspec.Struct):
    """A token and how likely it was."""

    token: str
    logprob: float
    bytes: list[int]
    """UTF-8; part of a character where a token is."""


class ContentLogprob(TokenLogprob):
    """A token of the content, and the most likely ones in its place."""

    top_logprobs: list[TokenLogprob]


class ChoiceLogprobs(msgspec.Struct):
    """Log-probabilities of a choice's tokens."""

    content: list[ContentLogprob]
    refusal: None = None


class Function(msgspec.Struct):
    """A called function."""

    name: str
    arguments: str


class ToolCallObject(msgspec.Struct):
    """A call."""

    id: str
    function: Function
    type: Literal["function"] = "function"


class AssistantMessageObject(msgspec.Struct, kw_only=True):
    """A whole answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | UnsetType | None = UNSET
    """Of models that reason."""
    refusal: None = None
    tool_calls: list[ToolCallObject] | UnsetType = UNSET


class ChatChoice(msgspec.Struct):
    """One of n answers."""

    index: int
    message: AssistantMessageObject
    logprobs: ChoiceLogprobs | None
    finish_reason: str
    """stop, length or tool_calls"""
    token_ids: list[int] | None = None


class ChatCompletion(msgspec.Struct, kw_only=True):
    """The body of a whole response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    service_tier: Literal["default"] | UnsetType = UNSET
    usage: Usage
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


class FunctionDelta(msgspec.Struct):
    """More of a called function."""

    arguments: str
    name: str | UnsetType = UNSET


class ToolCallDelta(msgspec.Struct):
    """More of a call; id, type and name come once."""

    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class MessageDelta(msgspec.Struct):
    """More of an answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct):
    """What is new in one of n answers."""

    index: int
    delta: MessageDelta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str | None = None
    """Once per answer, in its last chunk."""
    token_ids: list[int] | UnsetType = UNSET


class ChatChunk(msgspec.Struct, kw_only=True):
    """The data of one event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    service_tier: Literal["default"] | UnsetType = UNSET
    usage: Usage | UnsetType | None = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET
