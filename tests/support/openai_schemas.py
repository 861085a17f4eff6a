"""OpenAI's published schemas, as the types of its own Python SDK carry them.

The SDK's types are generated from the published OpenAPI document, but they are lenient: unknown
fields pass, and what may be null may also be absent. `checked` is strict about both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from openai import BaseModel
from openai.types import Completion, CompletionChoice, CreateEmbeddingResponse, Model
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionTokenLogprob,
    chat_completion,
    chat_completion_chunk,
)
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from openai.types.shared import ErrorObject

Official = TypeVar("Official", bound=BaseModel)

REQUIRED: dict[type[BaseModel], set[str]] = {
    chat_completion.Choice: {"logprobs"},
    chat_completion.ChoiceLogprobs: {"content", "refusal"},
    chat_completion_chunk.Choice: {"finish_reason", "logprobs"},
    chat_completion_chunk.ChoiceLogprobs: {"content", "refusal"},
    ChatCompletionMessage: {"content", "refusal"},
    ChatCompletionTokenLogprob: {"bytes"},
    TopLogprob: {"bytes"},
    CompletionChoice: {"logprobs"},
    ErrorObject: {"param", "code"},
}
"""Fields that the document requires and the SDK makes optional, as they may be null.

A chunk's logprobs are the exception: OpenAI's server sends them always, its document requires
nothing.
"""

MODEL_EXTENSIONS = frozenset({"root", "max_model_len"})
"""What vLLM adds to a model, and clients of both look for."""

VLLM_FIELDS = frozenset({"token_ids", "prompt_token_ids", "prompt_logprobs"})
"""What vLLM adds to a whole answer, null unless it is asked for; vLLM's clients read it in any
case."""

RESPONSE_EXTENSIONS = frozenset({"presence_penalty", "frequency_penalty", "store"})
"""What the Open Responses specification adds to OpenAI's response object."""


def checked(
    kind: type[Official],
    data: dict[str, Any],
    extensions: frozenset[str] = frozenset(),
    nulls: frozenset[str] = frozenset(),
) -> Official:
    """The object, if it has all fields of its type, of their types, and no others but these.

    Args:
        nulls: further fields that are allowed as null.

    Raises:
        ValidationError: a field has another type, or is missing.
        AssertionError: a nullable field is missing, or a field is unknown.
    """
    found = kind.model_validate_json(json.dumps(data), strict=True)
    for part in _parts(found):
        extra = part.model_extra or {}
        unknown = {name for name in extra if name not in nulls or extra[name] is not None}
        unknown -= extensions
        assert not unknown, f"{type(part).__name__} has no {unknown}"
        missing = REQUIRED.get(type(part), set()) - part.model_fields_set
        assert not missing, f"{type(part).__name__} lacks {missing}"
    return found


def checked_chat(data: dict[str, Any], extensions: frozenset[str] = frozenset()) -> ChatCompletion:
    """A whole chat completion."""
    return checked(ChatCompletion, data, extensions, VLLM_FIELDS)


def checked_chunk(
    data: dict[str, Any], extensions: frozenset[str] = frozenset()
) -> ChatCompletionChunk:
    """A chunk of a streamed one."""
    return checked(ChatCompletionChunk, data, extensions)


def checked_completion(
    data: dict[str, Any], extensions: frozenset[str] = frozenset()
) -> Completion:
    """A whole text completion."""
    return _checked_completion(data, extensions, VLLM_FIELDS)


def checked_completion_chunk(
    data: dict[str, Any], extensions: frozenset[str] = frozenset()
) -> Completion:
    """A chunk of a streamed one."""
    return _checked_completion(data, extensions, frozenset())


def _checked_completion(
    data: dict[str, Any], extensions: frozenset[str], nulls: frozenset[str]
) -> Completion:
    """A text completion.

    The document forgets that a chunk's finish_reason and what is said of a text's first token are
    null: OpenAI's own server has always sent those.
    """
    choices = [_without_forgotten_nulls(choice) for choice in data["choices"]]
    return checked(Completion, {**data, "choices": choices}, extensions, nulls)


def checked_embeddings(data: dict[str, Any]) -> CreateEmbeddingResponse:
    """Vectors as numbers."""
    return checked(CreateEmbeddingResponse, data)


def checked_model(data: dict[str, Any]) -> Model:
    """One model of the list."""
    return checked(Model, data, MODEL_EXTENSIONS)


def checked_error(data: dict[str, Any]) -> ErrorObject:
    """The object in the body of an error, or in a stream's event."""
    assert data.keys() == {"error"}
    return checked(ErrorObject, data["error"])


def _without_forgotten_nulls(choice: dict[str, Any]) -> dict[str, Any]:
    choice = {**choice, "finish_reason": choice["finish_reason"] or "stop"}
    if choice["logprobs"]:
        lists = choice["logprobs"].items()
        known = {name: [item for item in items if item is not None] for name, items in lists}
        choice["logprobs"] = known
    return choice


def _parts(value: object) -> Iterator[BaseModel]:
    """The object and all objects in it."""
    if isinstance(value, BaseModel):
        yield value
        for name in value.model_fields_set:
            yield from _parts(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item)
