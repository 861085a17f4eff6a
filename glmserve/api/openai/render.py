"""POST /v1/chat/completions/render and /v1/completions/render, in vLLM's shape.

Routers and engines that take token ids ask for the prompt of a request. Nothing is generated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.chat_generation import chat_prompt
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.submission import encode_prompts, room_for_output
from glmserve.api.answering.truncation import truncated
from glmserve.api.http.body import read_request
from glmserve.api.http.request_id import REQUEST_ID_HEADER, new_request_id
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.api.openai.completions import expected_tokens
from glmserve.api.protocol import ChatCompletionRequest, CompletionRequest, GenerationRequest
from glmserve.errors import InvalidRequestError


class ChatRenderRequest(ChatCompletionRequest):
    """A request for chat completions of which only the prompt is wanted."""

    request_id: str | None = Field(None, description="Part of the id in the response.")


class CompletionRenderRequest(CompletionRequest):
    """A request for completions of which only the prompts are wanted."""

    request_id: str | None = Field(None, description="Part of the ids in the response.")


class RenderedPrompt(msgspec.Struct, kw_only=True):
    """A prompt as token ids, and how its answer is to be generated."""

    request_id: str
    token_ids: list[int]
    token_offsets: None = None
    features: None = None
    sampling_params: dict[str, Any]
    """The request's fields, with the defaults of those that were not sent."""
    model: str
    stream: bool
    stream_options: dict[str, bool] | None
    cache_salt: str | None
    priority: int
    kv_transfer_params: None = None


async def render_chat(request: Request) -> Response:
    """The prompt of a conversation as token ids."""
    server = context_of(request)
    wanted, _ = await read_request(request, ChatRenderRequest)
    server.settle_model(wanted)
    server.apply_defaults(wanted)
    prompt_ids = await chat_prompt(server, wanted)
    assert server.chat_format is not None  # otherwise there is no prompt
    stop_ids = {*server.chat_format.stop_ids, *server.model.eos_token_ids}
    logprobs = (wanted.top_logprobs or 0) if wanted.logprobs else None
    room = _room(server, prompt_ids, "messages")
    params = _sampling_params(wanted, wanted.output_limit or room, stop_ids, logprobs)
    request_id = f"chatcmpl-{_request_id(request, wanted.request_id)}"
    return json_response(_rendered(wanted, request_id, prompt_ids, params))


async def render_completion(request: Request) -> Response:
    """The prompts of completions as token ids, one object for each prompt."""
    server = context_of(request)
    wanted, _ = await read_request(request, CompletionRenderRequest)
    server.settle_model(wanted)
    server.apply_defaults(wanted)
    encoded = await encode_prompts(
        server, wanted.prompts, "prompt", add_special_tokens=wanted.add_special_tokens
    )
    prompts = [truncated(server, wanted, ids, expected_tokens(wanted)) for ids in encoded]
    stop_ids = {*server.model.eos_token_ids}
    if server.tokenizer is not None:
        stop_ids.add(server.tokenizer.eos_id)
    name = f"cmpl-{_request_id(request, wanted.request_id)}"
    rendered = []
    for number, ids in enumerate(prompts):
        room = _room(server, ids, "prompt")
        max_tokens = room if wanted.output_limit == -1 else min(expected_tokens(wanted), room)
        params = _sampling_params(wanted, max_tokens, stop_ids, wanted.logprobs)
        request_id = name if len(prompts) == 1 else f"{name}-{number}"
        rendered.append(_rendered(wanted, request_id, ids, params))
    return json_response(rendered)


def _room(server: ServerContext, prompt_ids: list[int], source: str) -> int:
    try:
        return room_for_output(server, len(prompt_ids))
    except InvalidRequestError as error:
        raise error.renamed({"prompt": source}) from None


def _request_id(request: Request, own: str | None) -> str:
    """The id that the client gave in a header or in the body, or a new one."""
    if request.headers.get(REQUEST_ID_HEADER):
        from_header: str = request.state.request_id
        return from_header
    return own or new_request_id()


def _sampling_params(
    wanted: GenerationRequest, max_tokens: int, stop_ids: Iterable[int], logprobs: int | None
) -> dict[str, Any]:
    """The fields that decide which tokens are generated, by vLLM's names."""
    sampling = wanted.sampling
    return {
        **{name: getattr(sampling, name) for name in sampling.__struct_fields__},
        "logit_bias": {str(key): bias for key, bias in sampling.logit_bias.items()} or None,
        "n": wanted.n,
        "seed": wanted.seed,
        "stop": list(wanted.stop_strings),
        "stop_token_ids": sorted(
            {*wanted.stop_token_ids, *(() if wanted.ignore_eos else stop_ids)}
        ),
        "ignore_eos": wanted.ignore_eos,
        "max_tokens": max_tokens,
        "min_tokens": wanted.min_tokens,
        "logprobs": logprobs,
        "prompt_logprobs": wanted.prompt_logprobs,
        "include_stop_str_in_output": wanted.include_stop_str_in_output,
        "skip_special_tokens": wanted.skip_special_tokens,
        "bad_words": wanted.bad_words,
    }


def _rendered(
    wanted: GenerationRequest, request_id: str, prompt_ids: list[int], params: dict[str, Any]
) -> RenderedPrompt:
    options = wanted.stream_options
    return RenderedPrompt(
        request_id=request_id,
        token_ids=prompt_ids,
        sampling_params=params,
        model=wanted.model,
        stream=wanted.stream,
        stream_options=options.model_dump() if options is not None else None,
        cache_salt=wanted.cache_salt or None,
        priority=wanted.priority,
    )
