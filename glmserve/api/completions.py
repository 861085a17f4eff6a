"""POST /v1/completions"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glmserve.api.context import ServerContext, context_of
from glmserve.api.generation import collect, read_body, room_for_output, submit, tokenize, usage
from glmserve.api.protocol import CompletionRequest, parse_request
from glmserve.api.sse import DONE, GenerationResponse, event
from glmserve.errors import InvalidRequestError
from glmserve.text.text_stream import TextStream

_DEFAULT_MAX_TOKENS = 16  # OpenAI's


async def completions(request: Request) -> Response:
    """Continue a prompt, streamed or whole."""
    context = context_of(request)
    completion_request = parse_request(CompletionRequest, await read_body(request))
    context.check_model(completion_request.model)
    stream = await _start(context, completion_request)
    completion = _Completion(context, completion_request, stream)
    if completion_request.stream:
        return GenerationResponse(stream, completion.events())
    text, token_ids = await collect(request, stream)
    return JSONResponse(completion.whole(text, token_ids))


async def _start(context: ServerContext, request: CompletionRequest) -> TextStream:
    tokenizer = context.tokenizer
    prompt = request.prompt
    if isinstance(prompt, list):
        prompt_ids = prompt
    elif tokenizer is None:
        raise InvalidRequestError(
            "this server has no tokenizer; send the prompt as token ids", "prompt"
        )
    else:
        prompt_ids = await tokenize(lambda: tokenizer.encode_prompt(prompt), len(prompt))
    return submit(
        context,
        request,
        prompt_ids,
        max_tokens=request.max_tokens
        or min(_DEFAULT_MAX_TOKENS, room_for_output(context, len(prompt_ids))),
        stop_ids=_stop_ids(context),
    )


def _stop_ids(context: ServerContext) -> frozenset[int]:
    """What the checkpoint says ends a text."""
    own = {context.tokenizer.eos_id} if context.tokenizer else set()
    return frozenset(context.model.eos_token_ids) | own


class _Completion:
    """The response objects of one completion; they share id, time and model."""

    def __init__(
        self, context: ServerContext, request: CompletionRequest, stream: TextStream
    ) -> None:
        self._request = request
        self._stream = stream
        # Without a tokenizer there is no text: the ids are the answer.
        self._with_ids = request.return_token_ids or context.tokenizer is None
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": context.config.served_model_name,
        }

    def whole(self, text: str, token_ids: list[int]) -> dict[str, Any]:
        choice = self._choice(text, token_ids, self._stream.finish_reason)
        if self._with_ids:
            choice["prompt_token_ids"] = self._stream.prompt_ids
        return {**self._head, "choices": [choice], "usage": usage(self._stream)}

    async def events(self) -> AsyncIterator[bytes]:
        options = self._request.stream_options
        include_usage = options is not None and options.include_usage
        tail: dict[str, Any] = {"usage": None} if include_usage else {}
        async for text, token_ids in self._stream:
            if text or self._with_ids:
                choice = self._choice(text, token_ids, None)
                yield event({**self._head, "choices": [choice], **tail})
        last = self._choice("", [], self._stream.finish_reason)
        yield event({**self._head, "choices": [last], **tail})
        if include_usage:
            yield event({**self._head, "choices": [], "usage": usage(self._stream)})
        yield DONE

    def _choice(self, text: str, token_ids: list[int], finish_reason: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "index": 0,
            "text": text,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        if self._with_ids:
            choice["token_ids"] = token_ids
        return choice
