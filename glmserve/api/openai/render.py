"""POST /v1/chat/completions/render and /v1/completions/render, in vLLM's shape.

Routers and engines that take token ids ask for the prompt of a request. Nothing is generated.
"""

from __future__ import annotations

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.rendered_prompt import (
    rendered,
    rendered_chat,
    room_behind,
    sampling_params,
)
from glmserve.api.answering.submission import encode_prompts
from glmserve.api.answering.truncation import truncated
from glmserve.api.http.body import read_request
from glmserve.api.http.request_id import own_or_new_id
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.api.openai.completions import expected_tokens
from glmserve.api.protocol import ChatCompletionRequest, CompletionRequest


class ChatRenderRequest(ChatCompletionRequest):
    """A request for chat completions of which only the prompt is wanted."""

    request_id: str | None = Field(None, description="Part of the id in the response.")


class CompletionRenderRequest(CompletionRequest):
    """A request for completions of which only the prompts are wanted."""

    request_id: str | None = Field(None, description="Part of the ids in the response.")


async def render_chat(request: Request) -> Response:
    """The prompt of a conversation as token ids."""
    wanted, _ = await read_request(request, ChatRenderRequest)
    request_id = f"chatcmpl-{own_or_new_id(request, wanted.request_id)}"
    return json_response(await rendered_chat(context_of(request), wanted, request_id))


async def render_completion(request: Request) -> Response:
    """The prompts of completions as token ids, one object for each prompt."""
    server = context_of(request)
    wanted, _ = await read_request(request, CompletionRenderRequest)
    await server.settle_model(wanted)
    server.apply_defaults(wanted)
    encoded = await encode_prompts(
        server, wanted.prompts, "prompt", add_special_tokens=wanted.add_special_tokens
    )
    prompts = [truncated(server, wanted, ids, expected_tokens(wanted)) for ids in encoded]
    stop_ids = {*server.model.eos_token_ids}
    if server.tokenizer is not None:
        stop_ids.add(server.tokenizer.eos_id)
    name = f"cmpl-{own_or_new_id(request, wanted.request_id)}"
    objects = []
    for number, ids in enumerate(prompts):
        room = room_behind(server, ids, "prompt")
        max_tokens = room if wanted.output_limit == -1 else min(expected_tokens(wanted), room)
        params = sampling_params(wanted, max_tokens, stop_ids, wanted.logprobs)
        request_id = name if len(prompts) == 1 else f"{name}-{number}"
        objects.append(rendered(wanted, request_id, ids, params))
    return json_response(objects)
