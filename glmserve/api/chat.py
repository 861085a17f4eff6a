"""POST /v1/chat/completions"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glmserve.api.context import ServerContext, context_of
from glmserve.api.generation import collect, read_body, submit, tokenize, usage
from glmserve.api.protocol import ChatCompletionRequest, parse_request
from glmserve.api.sse import DONE, GenerationResponse, encode_json, event
from glmserve.errors import InvalidRequestError
from glmserve.text.chat_format import ChatMessage
from glmserve.text.text_stream import TextStream

_MESSAGE_COST = 16  # characters that take about as long to tokenise as what is around a message

_ROLES = {"developer": "system"}


async def chat_completions(request: Request) -> Response:
    """Answer the last message of a conversation, streamed or whole."""
    context = context_of(request)
    chat = parse_request(ChatCompletionRequest, await read_body(request))
    context.check_model(chat.model)
    stream = await _start(context, chat)
    completion = _Completion(context, chat, stream)
    if chat.stream:
        return GenerationResponse(stream, completion.events())
    text, token_ids = await collect(request, stream)
    return JSONResponse(completion.whole(text, token_ids))


async def _start(context: ServerContext, chat: ChatCompletionRequest) -> TextStream:
    chat_format = context.chat_format
    if chat_format is None:
        raise InvalidRequestError(
            "this server has no tokenizer; send token ids to /v1/completions", "messages"
        )
    if chat.max_tokens and chat.max_completion_tokens:
        raise InvalidRequestError(
            "max_tokens is the old name of max_completion_tokens; send one of them", "max_tokens"
        )
    messages = [ChatMessage(_ROLES.get(m.role, m.role), m.text) for m in chat.messages]
    prompt_ids = await tokenize(
        lambda: chat_format.render(messages), sum(len(m.content) + _MESSAGE_COST for m in messages)
    )
    return submit(
        context,
        chat,
        prompt_ids,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        stop_ids=frozenset(chat_format.stop_ids) | frozenset(context.model.eos_token_ids),
        response_filter=chat_format.response_filter(),
    )


class _Completion:
    """The response objects of one chat completion; they share id, time and model."""

    def __init__(
        self, context: ServerContext, chat: ChatCompletionRequest, stream: TextStream
    ) -> None:
        self._chat = chat
        self._stream = stream
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk" if chat.stream else "chat.completion",
            "created": int(time.time()),
            "model": context.config.served_model_name,
        }

    def whole(self, text: str, token_ids: list[int]) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": self._stream.finish_reason,
        }
        body: dict[str, Any] = {**self._head, "choices": [choice], "usage": usage(self._stream)}
        if self._chat.return_token_ids:
            choice["token_ids"] = token_ids
            body["prompt_token_ids"] = self._stream.prompt_ids
        return body

    async def events(self) -> AsyncIterator[bytes]:
        options = self._chat.stream_options
        include_usage = options is not None and options.include_usage
        tail: dict[str, Any] = {"usage": None} if include_usage else {}
        first = self._chunk({"role": "assistant", "content": ""}, None, tail)
        if self._chat.return_token_ids:
            first["prompt_token_ids"] = self._stream.prompt_ids
        yield event(first)
        before, after = self._content_frame(tail)
        async for text, token_ids in self._stream:
            if self._chat.return_token_ids:
                chunk = self._chunk({"content": text}, None, tail)
                chunk["choices"][0]["token_ids"] = token_ids
                yield event(chunk)
            elif text:
                yield before + encode_json(text) + after
        yield event(self._chunk({}, self._stream.finish_reason, tail))
        if include_usage:
            yield event({**self._head, "choices": [], "usage": usage(self._stream)})
        yield DONE

    def _chunk(
        self, delta: dict[str, Any], finish_reason: str | None, tail: dict[str, Any]
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice], **tail}

    def _content_frame(self, tail: dict[str, Any]) -> tuple[bytes, bytes]:
        """A content event cut at its text: everything else is the same for every token."""
        before, after = event(self._chunk({"content": "\0"}, None, tail)).split(rb'"\u0000"')
        return before, after
