"""POST /v1/messages, /v1/messages/count_tokens and /v1/messages/render"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.chat_generation import chat_prompt, start_chat
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.answering.rendered_prompt import rendered_chat
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.anthropic.conversation import FIELD_NAMES, chat_request
from glmserve.api.anthropic.errors import PromptTooLongError, ThreadUnsupportedError
from glmserve.api.anthropic.objects import TokenCount
from glmserve.api.anthropic.protocol import CountTokensRequest, MessagesRequest, left_out
from glmserve.api.anthropic.writer import MessageWriter
from glmserve.api.http.body import read_request
from glmserve.api.http.request_id import own_or_new_id
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.errors import ContextLengthError, InvalidRequestError


def _check_thread(request: CountTokensRequest) -> None:
    if request.thread is not None:
        raise ThreadUnsupportedError(
            "thread: this server keeps no conversations; send the whole conversation as messages",
            "thread",
        )


class MessagesEndpoint(Endpoint[MessagesRequest]):
    """Answers the last message of a conversation, streamed or whole."""

    path = "/v1/messages"
    request_type = MessagesRequest
    field_names = FIELD_NAMES
    checks = (_check_thread,)

    async def start(
        self, server: ServerContext, request: MessagesRequest, answer: AnswerContext
    ) -> MessageWriter:
        server.left_out_tools.note(left_out(request), answer)
        chat = await _chat(request)
        server.apply_defaults(chat)  # of fields that this API does not have
        try:
            answering = await start_chat(server, chat, answer, cut_to_context=True)
        except ContextLengthError as error:
            raise PromptTooLongError.of(error) from None
        return MessageWriter(request.model, request.max_tokens, answering)


async def count_tokens(request: Request) -> Response:
    """The number of tokens that the model would read to answer."""
    server = context_of(request)
    counted, _ = await read_request(request, CountTokensRequest)
    await server.find_model(counted.model)
    _check_thread(counted)
    try:
        prompt_ids = await chat_prompt(server, await _chat(counted))
    except InvalidRequestError as error:
        raise error.renamed(FIELD_NAMES) from None
    return json_response(TokenCount(len(prompt_ids)))


async def render_message(request: Request) -> Response:
    """The prompt of a conversation as token ids."""
    server = context_of(request)
    wanted, _ = await read_request(request, MessagesRequest)
    _check_thread(wanted)
    name = f"msg_{own_or_new_id(request)}"
    try:
        chat = await _chat(wanted)
        chat.stream = wanted.stream
        prompt = await rendered_chat(server, chat, name, cut_to_context=True)
    except ContextLengthError as error:
        raise PromptTooLongError.of(error) from None
    except InvalidRequestError as error:
        raise error.renamed(FIELD_NAMES) from None
    return json_response(prompt)


async def _chat(request: CountTokensRequest) -> ChatCompletionRequest:
    num_blocks = sum(1 + len(message.content) for message in request.messages)
    return await run_in_thread_if_large(lambda: chat_request(request), num_blocks)
