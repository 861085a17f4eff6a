"""POST /v1/embeddings: the model's last hidden states, averaged over each input."""

from __future__ import annotations

import base64
import math
import struct
from array import array
from functools import partial
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.caller import Caller
from glmserve.api.answering.client import ClientSignal
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.generation import Choice, Generation
from glmserve.api.answering.sse import encode_json
from glmserve.api.answering.submission import (
    admit,
    encode_prompts,
    scheduling_attributes,
    take_back,
)
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.answering.truncation import truncated
from glmserve.api.http.body import read_request
from glmserve.api.http.state import caller_of, context_of, disconnected
from glmserve.api.protocol.embeddings import EmbeddingRequest
from glmserve.engine import TokenStream
from glmserve.errors import InvalidRequestError
from glmserve.request import SamplingParams
from glmserve.text.text_assembler import TextAssembler

_PROMPT_ALONE = SamplingParams(max_tokens=0, pool=True)


class Embedding(msgspec.Struct):
    """The vector of one input; its length is 1."""

    index: int
    embedding: list[float] | str
    """Numbers, or base64 of little-endian float32."""
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct):
    """The vectors of all inputs, in order."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


async def embeddings(request: Request) -> Response:
    """A vector for each input."""
    context = context_of(request)
    wanted, _ = await read_request(request, EmbeddingRequest)
    body = await embed(context, wanted, caller_of(request), partial(disconnected, request))
    return Response(body, media_type="application/json")


async def embed(
    context: ServerContext,
    wanted: EmbeddingRequest,
    caller: Caller,
    client_left: ClientSignal,
    *,
    in_background: bool = False,
) -> bytes:
    """The JSON of an EmbeddingList.

    Args:
        in_background: see AnswerContext.

    Raises:
        ClientGoneError: the client left.
        GlmserveError: the request cannot be honoured, or its computation failed.
    """
    adapter = await context.settle_model(wanted)
    with context.engine.adapters.held(adapter):
        _check_dimensions(context, wanted)
        inputs = await encode_prompts(
            context, wanted.inputs, "input", add_special_tokens=wanted.add_special_tokens
        )
        inputs = [truncated(context, wanted, ids, 0) for ids in inputs]
        answer = AnswerContext(caller, adapter, in_background=in_background)
        generation = _start(context, answer, wanted, inputs)
    wholes = await generation.collect(client_left)
    num_tokens = sum(map(len, inputs))
    usage = EmbeddingUsage(num_tokens, num_tokens)

    def embedding(total: array[float]) -> list[float] | str:
        return _encoded(_unit(total[: wanted.dimensions]), wanted.encoding_format)

    def body() -> bytes:
        data = [
            Embedding(index, embedding(whole.choice.request.pooled))
            for index, whole in enumerate(wholes)
        ]
        return encode_json(EmbeddingList(data, wanted.model, usage))

    return await run_in_thread_if_large(body, len(wholes) * context.model.hidden_size)


def _check_dimensions(context: ServerContext, wanted: EmbeddingRequest) -> None:
    size = context.model.hidden_size
    if wanted.dimensions is not None and wanted.dimensions > size:
        raise InvalidRequestError(
            f"dimensions ({wanted.dimensions}) is more than the {size} numbers of this model's "
            "vectors",
            "dimensions",
        )


def _start(
    context: ServerContext, answer: AnswerContext, wanted: EmbeddingRequest, inputs: list[list[int]]
) -> Generation:
    """Compute every input, or none."""
    lease = admit(context, answer, sum(map(len, inputs)))
    attributes = scheduling_attributes(context, answer, wanted.priority, wanted.cache_salt)
    streams: list[TokenStream] = []
    try:
        for ids in inputs:
            streams.append(context.engine.submit(ids, _PROMPT_ALONE, attributes))
    except BaseException as error:
        take_back([streams], lease)
        if isinstance(error, InvalidRequestError):  # only the input can be wrong
            raise error.renamed({error.param or "": "input", "prompt": "input"}) from None
        raise
    groups = [[Choice(stream, TextAssembler(_PROMPT_ALONE, None))] for stream in streams]
    return Generation(groups, answer, lease)


def _unit(total: array[float]) -> list[float]:
    """The mean, scaled to length 1; it has the direction of the sum."""
    length = math.sqrt(sum(x * x for x in total)) or 1.0
    return [x / length for x in total]


def _encoded(vector: list[float], encoding_format: str) -> list[float] | str:
    if encoding_format == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
