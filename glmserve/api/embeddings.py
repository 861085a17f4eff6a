"""POST /v1/embeddings: the model's last hidden states, averaged over each input."""

from __future__ import annotations

import base64
import math
import struct
from array import array
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.body import read_request
from glmserve.api.caller import Caller, caller_of
from glmserve.api.choices import Generation
from glmserve.api.context import ServerContext, context_of
from glmserve.api.generation import encode_prompts, standing
from glmserve.api.offload import offload
from glmserve.api.protocol.embeddings import EmbeddingRequest
from glmserve.api.responses import json_response
from glmserve.errors import InvalidRequestError
from glmserve.request import SamplingParams
from glmserve.text.text_stream import TextStream

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
    wanted = await read_request(request, EmbeddingRequest)
    context.check_model(wanted.model)
    inputs = await encode_prompts(context, wanted.inputs, "input")
    generation = _start(context, caller_of(request), wanted, inputs)
    wholes = await generation.collect(request)
    num_tokens = sum(map(len, inputs))
    usage = EmbeddingUsage(num_tokens, num_tokens)

    def answer() -> Response:
        data = [
            Embedding(index, _encoded(_unit(whole.stream.request.pooled), wanted.encoding_format))
            for index, whole in enumerate(wholes)
        ]
        return json_response(EmbeddingList(data, wanted.model, usage))

    return await offload(answer, len(wholes) * context.model.hidden_size)


def _start(
    context: ServerContext, caller: Caller, wanted: EmbeddingRequest, inputs: list[list[int]]
) -> Generation:
    """Compute every input, or none."""
    lease = context.quotas.admit(caller.tenant, sum(map(len, inputs)))
    place = standing(context, caller, wanted.priority, wanted.cache_salt)
    groups: list[list[TextStream]] = []
    try:
        for ids in inputs:
            stream = context.engine.submit(ids, _PROMPT_ALONE, place)
            groups.append([TextStream(stream, None)])
    except BaseException as error:
        Generation(groups, lease=lease).close()
        if isinstance(error, InvalidRequestError):
            error.param = "input"
        raise
    return Generation(groups, lease=lease)


def _unit(total: array[float]) -> list[float]:
    """The mean at length 1: its direction is that of the sum."""
    length = math.sqrt(sum(x * x for x in total)) or 1.0
    return [x / length for x in total]


def _encoded(vector: list[float], encoding_format: str) -> list[float] | str:
    if encoding_format == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
