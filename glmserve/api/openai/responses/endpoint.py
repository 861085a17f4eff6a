"""POST /v1/responses"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.chat_generation import start_chat
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.answering.sse import encode_json
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.openai.logprobs import ChatLogprobs
from glmserve.api.openai.responses.conversation import (
    FIELD_NAMES,
    chat_request,
    input_items,
    num_parts,
)
from glmserve.api.openai.responses.objects import Item, ResponseObject
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.openai.responses.store import (
    PreviousResponseNotFoundError,
    ResponseStore,
    StoredResponse,
)
from glmserve.api.openai.responses.writer import ResponseWriter
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.errors import InvalidRequestError


class ResponsesEndpoint(Endpoint[ResponsesRequest]):
    """Answers the input, streamed or whole, and stores the response if the request allows it.

    Args:
        store: of all responses.
    """

    path = "/v1/responses"
    request_type = ResponsesRequest
    field_names = FIELD_NAMES

    def __init__(self, store: ResponseStore) -> None:
        self._store = store

    async def start(
        self, server: ServerContext, request: ResponsesRequest, answer: AnswerContext
    ) -> ResponseWriter:
        earlier = self._recorded_earlier_items(request, answer)
        is_stored = self._is_stored(request)
        own = await run_in_thread_if_large(
            lambda: input_items(request, answer.identity), num_parts(request)
        )
        items = [*earlier, *own]

        def keep(response: ResponseObject) -> None:
            if is_stored:
                stored = StoredResponse(encode_json(response), items, response.output)
                self._store.add(answer.caller.key_id, response.id, stored)

        chat = await _chat(request, items)
        answering = await start_chat(server, chat, answer)
        logprobs = ChatLogprobs(server.tokenizer) if request.include and server.tokenizer else None
        return ResponseWriter(request, answering, logprobs, keep)

    def _recorded_earlier_items(
        self, request: ResponsesRequest, answer: AnswerContext
    ) -> Sequence[Item]:
        """The earlier turns. A resumed answer has those with which it began."""
        if answer.journaled is None or request.previous_response_id is None:
            return self._earlier_items(request, answer)
        notes = answer.journaled.endpoint_data(
            lambda: encode_json(self._earlier_items(request, answer))
        )
        return msgspec.json.decode(notes, type=list[Item])

    def _earlier_items(self, request: ResponsesRequest, answer: AnswerContext) -> Sequence[Item]:
        """The conversation that the request continues."""
        previous = request.previous_response_id
        if previous is None:
            return ()
        if not self._store.is_on:
            raise InvalidRequestError(
                "this server keeps no responses (--response-store-size 0); send the whole "
                "conversation as input",
                "previous_response_id",
            )
        stored = self._store.find(answer.caller.key_id, previous)
        if stored is None:
            raise PreviousResponseNotFoundError(
                f"there is no response {previous[:100]!r} here, or no longer; send the whole "
                "conversation as input",
                "previous_response_id",
            )
        return (*stored.input, *stored.output)

    def _is_stored(self, request: ResponsesRequest) -> bool:
        if request.store and not self._store.is_on:
            raise InvalidRequestError(
                "this server keeps no responses (--response-store-size 0); leave store out or "
                "send false",
                "store",
            )
        return self._store.is_on and request.store is not False


async def _chat(request: ResponsesRequest, items: Sequence[Item]) -> ChatCompletionRequest:
    chat = await run_in_thread_if_large(
        lambda: chat_request(request, items), num_parts(request) + len(items)
    )
    if chat.logprobs and chat.tools and chat.tool_choice != "none":
        raise InvalidRequestError(
            "include: tokens of calls have no place in log-probabilities of text; send "
            "tool_choice 'none' with them, or no tools",
            "include",
        )
    return chat
