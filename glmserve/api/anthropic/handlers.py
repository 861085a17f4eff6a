"""POST /v1/messages and /v1/messages/count_tokens"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.anthropic.conversation import FIELD_NAMES, chat_request
from glmserve.api.anthropic.objects import TokenCount
from glmserve.api.anthropic.protocol import CountTokensRequest, MessagesRequest
from glmserve.api.anthropic.writer import MessageWriter
from glmserve.api.body import read_request
from glmserve.api.chat_generation import chat_prompt, start_chat
from glmserve.api.context import context_of
from glmserve.api.journaling.asked import Asked
from glmserve.api.journaling.through import through_journal
from glmserve.api.offload import offload
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.api.renamed_fields import renamed_fields
from glmserve.api.responses import json_response
from glmserve.api.sse import streamed


async def create_message(request: Request) -> Response:
    """Answer the last message of a conversation, streamed or whole."""
    context = context_of(request)
    wanted = await read_request(request, MessagesRequest)
    context.check_model(wanted.model)

    async def answer(asked: Asked) -> Response:
        with renamed_fields(FIELD_NAMES):
            answering = await start_chat(context, await _chat(wanted), asked)
        writer = MessageWriter(wanted.model, answering)
        if wanted.stream:
            return await streamed(request, answering.generation, writer.events())
        return json_response(await writer.whole(request))

    return await through_journal(request, wanted.stream, answer)


async def count_tokens(request: Request) -> Response:
    """How many tokens the model would read to answer."""
    context = context_of(request)
    wanted = await read_request(request, CountTokensRequest)
    context.check_model(wanted.model)
    with renamed_fields(FIELD_NAMES):
        prompt_ids = await chat_prompt(context, await _chat(wanted))
    return json_response(TokenCount(len(prompt_ids)))


async def _chat(wanted: CountTokensRequest) -> ChatCompletionRequest:
    num_blocks = sum(1 + len(message.content) for message in wanted.messages)
    return await offload(lambda: chat_request(wanted), num_blocks)
