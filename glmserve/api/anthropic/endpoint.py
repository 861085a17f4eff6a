"""POST /v1/messages"""

from __future__ import annotations

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.chat_generation import start_chat
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.anthropic.conversation import FIELD_NAMES, chat_request
from glmserve.api.anthropic.errors import PromptTooLongError, ThreadUnsupportedError
from glmserve.api.anthropic.protocol import CountTokensRequest, MessagesRequest, left_out
from glmserve.api.anthropic.writer import MessageWriter
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.errors import ContextLengthError


def check_thread(request: CountTokensRequest) -> None:
    """Refuse a conversation that the server would have to keep.

    Raises:
        ThreadUnsupportedError: the request names one.
    """
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
    checks = (check_thread,)

    async def start(
        self, server: ServerContext, request: MessagesRequest, answer: AnswerContext
    ) -> MessageWriter:
        server.left_out_tools.note(left_out(request), answer)
        chat = await chat_of(request)
        server.apply_defaults(chat)  # of fields that this API does not have
        try:
            answering = await start_chat(server, chat, answer, cut_to_context=True)
        except ContextLengthError as error:
            raise PromptTooLongError.of(error) from None
        return MessageWriter(request.model, request.max_tokens, answering)


async def chat_of(request: CountTokensRequest) -> ChatCompletionRequest:
    """The chat completion request with the same meaning.

    Raises:
        InvalidRequestError: there is none.
    """
    num_blocks = sum(1 + len(message.content) for message in request.messages)
    return await run_in_thread_if_large(lambda: chat_request(request), num_blocks)
