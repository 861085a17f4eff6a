"""The requests and responses of each route, for /openapi.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import GenericAlias
from typing import Literal, get_args

import msgspec
from pydantic import BaseModel

from glmserve.api.answering.rendered_prompt import RenderedPrompt
from glmserve.api.anthropic.objects import AnthropicError, MessageObject, TokenCount
from glmserve.api.anthropic.objects import Event as MessagesEvent
from glmserve.api.anthropic.protocol import CountTokensRequest, MessagesRequest
from glmserve.api.batching.objects import (
    BatchList,
    BatchObject,
    DeletedFile,
    FileList,
    FileObject,
)
from glmserve.api.batching.requests import CreateBatchRequest
from glmserve.api.openai.chat_objects import ChatChunk, ChatCompletion
from glmserve.api.openai.completion_objects import Completion
from glmserve.api.openai.embeddings import EmbeddingList
from glmserve.api.openai.models import Model, ModelList
from glmserve.api.openai.render import (
    ChatRenderRequest,
    CompletionRenderRequest,
)
from glmserve.api.openai.responses.events import Event as ResponsesEvent
from glmserve.api.openai.responses.objects import (
    DeletedResponse,
    InputItemList,
    InputTokenCount,
    ResponseObject,
)
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.operator.adapters import LOAD_PATH, UNLOAD_PATH, Adapter, AdapterList
from glmserve.api.operator.admin import DrainStatus
from glmserve.api.operator.health import Health, Version
from glmserve.api.page.defaults import SamplingDefaults
from glmserve.api.protocol import ChatCompletionRequest, CompletionRequest
from glmserve.api.protocol.adapters import (
    AddAdapterRequest,
    LoadLoraAdapterRequest,
    UnloadLoraAdapterRequest,
)
from glmserve.api.protocol.chat_batch import ChatBatchRequest
from glmserve.api.protocol.embeddings import EmbeddingRequest
from glmserve.api.tokenizer.info import TokenizerInfo
from glmserve.api.tokenizer.tokens import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)
from glmserve.engine import Moment


class ErrorDetail(msgspec.Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(msgspec.Struct):
    """The body of every error, in OpenAI's shape."""

    error: ErrorDetail


Body = type | GenericAlias | tuple[type, ...] | Literal["object", "string"]
"""A type that msgspec describes, a list of such a type, one of several such types, or the name of a
JSON type."""

_GENERATION_FAILURES = (400, 401, 404, 413, 415, 429, 500, 503)
_ADAPTER_FAILURES = (400, 401, 403, 413, 415, 500, 503)
_TOKENS_FAILURES = (400, 401, 404, 413, 415, 500, 503)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: Literal["get", "post", "delete"] = "get"
    path: str
    summary: str
    request: type[BaseModel] | tuple[type[BaseModel], ...] | None = None
    responses: Mapping[str, Body]
    """Bodies of a 200 by their media types; of a stream, the data of one event."""
    failures: tuple[int, ...] = (401,)
    failure: type = Error
    """Body of every failure."""
    is_open: bool = False
    """No API key is ever needed."""

    @property
    def name(self) -> str:
        """An identifier for generated clients."""
        return "_".join((self.method, *re.findall(r"\w+", self.path)))

    @property
    def parameters(self) -> list[str]:
        """Names of the path's variable parts."""
        return re.findall(r"{(\w+)}", self.path)


def _health(
    path: str, summary: str, *failures: int, method: Literal["get", "post"] = "get"
) -> Operation:
    return Operation(
        method=method,
        path=path,
        summary=summary,
        responses={"application/json": Health},
        failures=failures,
        failure=Health,
        is_open=True,
    )


OPERATIONS = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        summary="Answer the last message of a conversation, streamed or whole.",
        request=ChatCompletionRequest,
        responses={"application/json": ChatCompletion, "text/event-stream": ChatChunk},
        failures=_GENERATION_FAILURES,
    ),
    Operation(
        method="post",
        path="/v1/chat/completions/batch",
        summary="Answer the last message of each of several conversations.",
        request=ChatBatchRequest,
        responses={"application/json": ChatCompletion},
        failures=_GENERATION_FAILURES,
    ),
    Operation(
        method="post",
        path="/v1/completions",
        summary="Continue a prompt, streamed or whole.",
        request=CompletionRequest,
        responses={"application/json": Completion, "text/event-stream": Completion},
        failures=_GENERATION_FAILURES,
    ),
    Operation(
        method="post",
        path="/v1/chat/completions/render",
        summary="The prompt of a request for chat completions, as token ids.",
        request=ChatRenderRequest,
        responses={"application/json": RenderedPrompt},
        failures=_TOKENS_FAILURES,
    ),
    Operation(
        method="post",
        path="/v1/completions/render",
        summary="The prompts of a request for completions, as token ids.",
        request=CompletionRenderRequest,
        responses={"application/json": list[RenderedPrompt]},
        failures=_TOKENS_FAILURES,
    ),
    Operation(
        method="post",
        path="/v1/responses",
        summary="Answer a list of items, streamed or whole; may go on from an earlier response.",
        request=ResponsesRequest,
        responses={
            "application/json": ResponseObject,
            "text/event-stream": get_args(ResponsesEvent),
        },
        failures=_GENERATION_FAILURES,
    ),
    Operation(
        method="post",
        path="/v1/responses/input_tokens",
        summary="The number of tokens that a response's prompt would have.",
        request=ResponsesRequest,
        responses={"application/json": InputTokenCount},
        failures=_TOKENS_FAILURES,
    ),
    Operation(
        method="post",
        path="/v1/responses/render",
        summary="The prompt of a request for a response, as token ids.",
        request=ResponsesRequest,
        responses={"application/json": RenderedPrompt},
        failures=_TOKENS_FAILURES,
    ),
    Operation(
        method="post",
        path="/v1/responses/{response_id}/cancel",
        summary="Stop generating a response in the background.",
        responses={"application/json": ResponseObject},
        failures=(400, 401, 404),
    ),
    Operation(
        path="/v1/responses/{response_id}",
        summary="A response that is still stored, or its events: stream, starting_after.",
        responses={
            "application/json": ResponseObject,
            "text/event-stream": get_args(ResponsesEvent),
        },
        failures=(400, 401, 404),
    ),
    Operation(
        method="delete",
        path="/v1/responses/{response_id}",
        summary="Forget a stored response.",
        responses={"application/json": DeletedResponse},
        failures=(401, 404),
    ),
    Operation(
        path="/v1/responses/{response_id}/input_items",
        summary="What a stored response answers, in pages: after, limit, order.",
        responses={"application/json": InputItemList},
        failures=(400, 401, 404),
    ),
    Operation(
        method="post",
        path="/v1/messages",
        summary="Answer the last message of a conversation, as Anthropic does.",
        request=MessagesRequest,
        responses={
            "application/json": MessageObject,
            "text/event-stream": get_args(MessagesEvent),
        },
        failures=_GENERATION_FAILURES,
        failure=AnthropicError,
    ),
    Operation(
        method="post",
        path="/v1/messages/render",
        summary="The prompt of a conversation, as token ids.",
        request=MessagesRequest,
        responses={"application/json": RenderedPrompt},
        failures=_TOKENS_FAILURES,
        failure=AnthropicError,
    ),
    Operation(
        method="post",
        path="/v1/messages/count_tokens",
        summary="How many tokens the model would read to answer.",
        request=CountTokensRequest,
        responses={"application/json": TokenCount},
        failures=(400, 401, 404, 413, 415, 500),
        failure=AnthropicError,
    ),
    Operation(
        method="post",
        path="/v1/embeddings",
        summary="The last hidden states, averaged over each input.",
        request=EmbeddingRequest,
        responses={"application/json": EmbeddingList},
        failures=_GENERATION_FAILURES,
    ),
    Operation(
        method="post",
        path="/v1/files",
        summary="Store a file: a form (multipart/form-data) with the fields purpose and file.",
        responses={"application/json": FileObject},
        failures=(400, 401, 403, 413, 500, 507),
    ),
    Operation(
        path="/v1/files",
        summary="The caller's files, in pages: purpose, after, limit, order.",
        responses={"application/json": FileList},
        failures=(400, 401, 403, 404, 507),
    ),
    Operation(
        path="/v1/files/{file_id}",
        summary="What is known of a file.",
        responses={"application/json": FileObject},
        failures=(401, 403, 404, 507),
    ),
    Operation(
        path="/v1/files/{file_id}/content",
        summary="A file's contents.",
        responses={"application/octet-stream": "string"},
        failures=(401, 403, 404, 507),
    ),
    Operation(
        method="delete",
        path="/v1/files/{file_id}",
        summary="Delete a file.",
        responses={"application/json": DeletedFile},
        failures=(400, 401, 403, 404, 507),
    ),
    Operation(
        method="post",
        path="/v1/batches",
        summary="Answer all requests of a file while the model is not needed otherwise.",
        request=CreateBatchRequest,
        responses={"application/json": BatchObject},
        failures=(400, 401, 403, 404, 413, 415, 429, 500, 507),
    ),
    Operation(
        path="/v1/batches",
        summary="The caller's batches, the newest first, in pages: after, limit.",
        responses={"application/json": BatchList},
        failures=(400, 401, 403, 404, 507),
    ),
    Operation(
        path="/v1/batches/{batch_id}",
        summary="A batch as it is now.",
        responses={"application/json": BatchObject},
        failures=(401, 403, 404, 507),
    ),
    Operation(
        method="post",
        path="/v1/batches/{batch_id}/cancel",
        summary="Stop a batch; what is answered stays in its output.",
        responses={"application/json": BatchObject},
        failures=(401, 403, 404, 507),
    ),
    Operation(
        path="/v1/models",
        summary="The names that requests may have as their model: the model's, and adapters'.",
        responses={"application/json": ModelList},
        failures=(401, 503),
    ),
    Operation(
        path="/v1/models/{model_id}",
        summary="One of them; an id may contain slashes.",
        responses={"application/json": Model},
        failures=(401, 404, 503),
    ),
    Operation(
        method="post",
        path="/tokenize",
        summary="The tokens of a text, or of a conversation as the model would read it.",
        request=TokenizeRequest,
        responses={"application/json": TokenizeResponse},
        failures=_TOKENS_FAILURES,
    ),
    Operation(
        method="post",
        path="/detokenize",
        summary="The text of tokens.",
        request=DetokenizeRequest,
        responses={"application/json": DetokenizeResponse},
        failures=_TOKENS_FAILURES,
    ),
    Operation(
        path="/tokenizer_info",
        summary="Names and sizes of the tokenizer.",
        responses={"application/json": TokenizerInfo},
        failures=(400, 401, 503),
    ),
    Operation(
        path="/board/events",
        summary="What the engine does, ten times a second; needs the admin key if there are keys.",
        responses={"text/event-stream": Moment},
        failures=(401, 403),
    ),
    Operation(
        path="/sampling_defaults",
        summary="What a chat request gets that sets no sampling fields.",
        responses={"application/json": SamplingDefaults},
    ),
    Operation(
        method="post",
        path="/invocations",
        summary="A request that has messages, prompt or input, as SageMaker sends it.",
        request=(ChatCompletionRequest, CompletionRequest, EmbeddingRequest),
        responses={
            "application/json": (ChatCompletion, Completion, EmbeddingList),
            "text/event-stream": (ChatChunk, Completion),
        },
        failures=_GENERATION_FAILURES,
    ),
    _health("/health", "The same as /health/ready.", 503),
    _health("/ping", "The same as /health/ready, as SageMaker asks for it.", 503),
    _health("/ping", "The same as /health/ready.", 503, method="post"),
    _health("/health/live", "Whether the process answers."),
    _health("/health/started", "Whether the model has generated a token once.", 503),
    _health("/health/ready", "Whether the model generates.", 503),
    Operation(
        method="post",
        path="/admin/drain",
        summary="Take no more requests, and finish those that have begun. Needs the admin key.",
        responses={"application/json": DrainStatus},
        failures=(401, 403),
    ),
    Operation(
        method="delete",
        path="/admin/drain",
        summary="Take requests again. Needs the admin key.",
        responses={"application/json": DrainStatus},
        failures=(401, 403),
    ),
    Operation(
        method="post",
        path="/admin/adapters",
        summary="Load an adapter under a name, or a new content of it. Needs the admin key.",
        request=AddAdapterRequest,
        responses={"application/json": Adapter},
        failures=_ADAPTER_FAILURES,
    ),
    Operation(
        path="/admin/adapters",
        summary="All adapters, and what became of each. Needs the admin key.",
        responses={"application/json": AdapterList},
        failures=(401, 403, 503),
    ),
    Operation(
        method="delete",
        path="/admin/adapters/{name}",
        summary="Unload an adapter when its requests have ended. Needs the admin key.",
        responses={"application/json": Adapter},
        failures=(401, 403, 404, 503),
    ),
    Operation(
        method="post",
        path=LOAD_PATH,
        summary="Load an adapter, as vLLM does. Needs the admin key.",
        request=LoadLoraAdapterRequest,
        responses={"text/plain": "string"},
        failures=_ADAPTER_FAILURES,
    ),
    Operation(
        method="post",
        path=UNLOAD_PATH,
        summary="Unload an adapter, as vLLM does. Needs the admin key.",
        request=UnloadLoraAdapterRequest,
        responses={"text/plain": "string"},
        failures=(*_ADAPTER_FAILURES, 404),
    ),
    Operation(
        path="/metrics",
        summary="Statistics for Prometheus.",
        responses={"text/plain": "string"},
    ),
    Operation(
        path="/version",
        summary="The version of glmserve.",
        responses={"application/json": Version},
    ),
    Operation(
        path="/openapi.json",
        summary="This document.",
        responses={"application/json": "object"},
    ),
    Operation(
        path="/docs",
        summary="This document as a page.",
        responses={"text/html": "string"},
    ),
)
