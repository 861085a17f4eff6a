"""POST /v1/embeddings: the model's last hidden states, averaged over each input."""

from __future__ import annotations

import base64
import math
import struct
from array import array
from collections.abc import Sequence
from typing import Literal

import msgspec

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.answering.generation import Choice, ChoiceDelta, Generation, WholeText
from glmserve.api.answering.sse import encode_json
from glmserve.api.answering.submission import (
    admit,
    encode_prompts,
    scheduling_attributes,
    take_back,
)
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.answering.truncation import truncated
from glmserve.api.protocol.embeddings import EmbeddingRequest
from glmserve.engine import TokenStream
from glmserve.errors import GlmserveError, InvalidRequestError
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


class EmbeddingsEndpoint(Endpoint[EmbeddingRequest]):
    """A vector for each input."""

    path = "/v1/embeddings"
    request_type = EmbeddingRequest
    is_journaled = False

    async def start(
        self, server: ServerContext, request: EmbeddingRequest, answer: AnswerContext
    ) -> EmbeddingWriter:
        _check_dimensions(server, request)
        inputs = await encode_prompts(
            server, request.inputs, "input", add_special_tokens=request.add_special_tokens
        )
        inputs = [truncated(server, request, ids, 0) for ids in inputs]
        generation = _start(server, answer, request, inputs)
        return EmbeddingWriter(request, generation, server.model.hidden_size)


class EmbeddingWriter:
    """Writes the vectors of one request, which is never a stream.

    Args:
        hidden_size: numbers of a whole vector.
    """

    def __init__(self, request: EmbeddingRequest, generation: Generation, hidden_size: int) -> None:
        self.generation = generation
        self._request = request
        self._hidden_size = hidden_size

    def opening(self) -> list[bytes]:
        raise NotImplementedError("vectors are not streamed")

    def push(self, deltas: Sequence[ChoiceDelta]) -> list[bytes]:
        raise NotImplementedError("vectors are not streamed")

    def closing(self) -> list[bytes]:
        raise NotImplementedError("vectors are not streamed")

    def failure(self, error: GlmserveError) -> list[bytes]:
        raise NotImplementedError("vectors are not streamed")

    async def whole(self, texts: Sequence[WholeText]) -> bytes:
        """The vectors as one JSON body."""
        size = len(texts) * self._hidden_size
        return await run_in_thread_if_large(lambda: encode_json(self._list(texts)), size)

    def _list(self, texts: Sequence[WholeText]) -> EmbeddingList:
        requests = [text.choice.request for text in texts]
        num_tokens = sum(request.num_prompt_tokens for request in requests)
        data = [
            Embedding(index, self._embedding(request.pooled))
            for index, request in enumerate(requests)
        ]
        return EmbeddingList(data, self._request.model, EmbeddingUsage(num_tokens, num_tokens))

    def _embedding(self, total: array[float]) -> list[float] | str:
        vector = _unit(total[: self._request.dimensions])
        return _encoded(vector, self._request.encoding_format)


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
