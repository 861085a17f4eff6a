"""From a checked request to a running generation: the part that all endpoints share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request

from glmserve.api.context import ServerContext
from glmserve.api.protocol import GenerationRequest
from glmserve.errors import ContextLengthError, GlmserveError, InvalidRequestError
from glmserve.request import SamplingParams
from glmserve.text.response_filter import ResponseFilter
from glmserve.text.text_stream import TextStream

MAX_BODY_SIZE = 16 * 2**20
"""Bytes of a request body; far above what the longest context can use."""

_LONG_TEXT = 4096
"""Characters from which on text is tokenised on a thread, so that streams go on meanwhile."""


class BodyTooLargeError(GlmserveError):
    """413: the request body is larger than any prompt can be."""

    http_status = 413
    error_type = "invalid_request_error"


async def read_body(request: Request) -> bytes:
    """The request's body, refusing what is too large before it fills memory."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_SIZE:
            raise BodyTooLargeError(f"the body is larger than {MAX_BODY_SIZE} bytes")
    return bytes(body)


async def tokenize(encode: Callable[[], list[int]], num_characters: int) -> list[int]:
    """Run a tokeniser call, off the event loop if it may take long."""
    if num_characters < _LONG_TEXT:
        return encode()
    return await asyncio.to_thread(encode)


def submit(
    context: ServerContext,
    request: GenerationRequest,
    prompt_ids: list[int],
    *,
    max_tokens: int | None,
    stop_ids: frozenset[int],
    response_filter: ResponseFilter | None = None,
) -> TextStream:
    """Start generating. The caller must close the returned stream on every path.

    Args:
        max_tokens: None allows what fits into the context.
        stop_ids: tokens that end a response, unless the request ignores them.

    Raises:
        GlmserveError: see Engine.submit.
    """
    if request.stream_options is not None and not request.stream:
        raise InvalidRequestError("stream_options goes with stream: true", "stream_options")
    if context.tokenizer is None and request.stop_strings:
        raise InvalidRequestError(
            "this server has no tokenizer, so it cannot look for stop strings; use stop_token_ids",
            "stop",
        )
    params = _sampling_params(context, request, prompt_ids, max_tokens, stop_ids)
    tokens = context.engine.submit(
        prompt_ids,
        params,
        priority=request.priority,
        cache_salt=request.cache_salt.encode(),
    )
    return TextStream(tokens, context.tokenizer, request.stop_strings, response_filter)


def _sampling_params(
    context: ServerContext,
    request: GenerationRequest,
    prompt_ids: list[int],
    max_tokens: int | None,
    stop_ids: frozenset[int],
) -> SamplingParams:
    vocab_size = context.model.vocab_size
    speakable = context.tokenizer.vocab_size if context.tokenizer else vocab_size
    logit_bias = {int(key): bias for key, bias in request.logit_bias.items()}
    for name, ids, limit in (
        ("prompt", prompt_ids, vocab_size),
        ("logit_bias", logit_bias, speakable),
        ("stop_token_ids", request.stop_token_ids, vocab_size),
    ):
        if ids and max(ids) >= limit:
            raise InvalidRequestError(
                f"token id {max(ids)} is outside this model's vocabulary of {limit}", name
            )
    if max_tokens is None:
        max_tokens = room_for_output(context, len(prompt_ids))
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=max(request.top_k, 0),
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        logit_bias=logit_bias,
        seed=context.next_seed() if request.seed is None else request.seed,
        stop_token_ids=frozenset(request.stop_token_ids)
        | (frozenset() if request.ignore_eos else stop_ids),
    )


def room_for_output(context: ServerContext, num_prompt_tokens: int) -> int:
    """Tokens that fit into the context behind the prompt."""
    max_context = context.engine.info.limits.max_context
    if num_prompt_tokens >= max_context:
        raise ContextLengthError(
            f"the prompt has {num_prompt_tokens} tokens, but this server's context holds "
            f"{max_context}, the answer included; shorten the prompt",
            "prompt",
        )
    return max_context - num_prompt_tokens


def usage(stream: TextStream) -> dict[str, Any]:
    """Token counts as OpenAI reports them."""
    return {
        "prompt_tokens": stream.num_prompt_tokens,
        "completion_tokens": stream.num_output_tokens,
        "total_tokens": stream.num_prompt_tokens + stream.num_output_tokens,
        "prompt_tokens_details": {"cached_tokens": stream.num_cached_tokens},
    }


async def collect(request: Request, stream: TextStream) -> tuple[str, list[int]]:
    """The whole text and its token ids, unless the client leaves first.

    Raises:
        ClientDisconnect: it left; the generation is aborted.
        GlmserveError: the generation failed.
    """
    generating = asyncio.ensure_future(_join(stream))
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((generating, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not generating.done():
            raise ClientDisconnect
        return generating.result()
    finally:
        generating.cancel()
        leaving.cancel()
        stream.close()


async def _join(stream: TextStream) -> tuple[str, list[int]]:
    text: list[str] = []
    token_ids: list[int] = []
    async for delta in stream:
        text.append(delta.text)
        token_ids += delta.token_ids
    return "".join(text), token_ids


async def _disconnected(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
