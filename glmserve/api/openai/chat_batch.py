"""POST /v1/chat/completions/batch, in vLLM's shape: a chat completion with one choice for each of
several conversations"""

from __future__ import annotations

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.chat_generation import start_chat
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.openai.chat import ChatWriter
from glmserve.api.protocol.chat_batch import ChatBatchRequest


class ChatBatchEndpoint(Endpoint[ChatBatchRequest]):
    """Answers the last message of each conversation, whole."""

    path = "/v1/chat/completions/batch"
    request_type = ChatBatchRequest

    async def start(
        self, server: ServerContext, request: ChatBatchRequest, answer: AnswerContext
    ) -> ChatWriter:
        chats = request.conversations()
        answering = await start_chat(server, chats[0], answer, others=chats[1:])
        return ChatWriter(server.tokenizer, chats[0], answering, others=chats[1:])
