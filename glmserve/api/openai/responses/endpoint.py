"""POST /v1/responses"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.caller import Caller
from glmserve.api.answering.chat_generation import ChatGeneration, chat_prompt, start_chat
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.answering.sse import encode_json
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.journaling.identity import Identity
from glmserve.api.openai.logprobs import ChatLogprobs
from glmserve.api.openai.responses.conversation import (
    FIELD_NAMES,
    chat_request,
    input_items,
    left_out,
    num_parts,
)
from glmserve.api.openai.responses.latest import LatestResponse
from glmserve.api.openai.responses.objects import Item, ResponseObject
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.openai.responses.raw_messages import RawMessages
from glmserve.api.openai.responses.store import (
    PreviousResponseNotFoundError,
    ResponseStore,
    StoredResponse,
)
from glmserve.api.openai.responses.tools import Functions
from glmserve.api.openai.responses.truncation import shortened
from glmserve.api.openai.responses.writer import ResponseWriter
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.errors import ContextLengthError, InvalidRequestError


class ResponsesEndpoint(Endpoint[ResponsesRequest]):
    """Answers the input, streamed or whole, and stores the response if the request allows it.

    Args:
        store: of all responses.
        latest: the newest response of a connection, stored or not; None: requests come one by one.
    """

    path = "/v1/responses"
    request_type = ResponsesRequest
    field_names = FIELD_NAMES

    def __init__(self, store: ResponseStore, latest: LatestResponse | None = None) -> None:
        self._store = store
        self._latest = latest

    async def start(
        self, server: ServerContext, request: ResponsesRequest, answer: AnswerContext
    ) -> ResponseWriter:
        earlier = self._recorded_earlier_items(request, answer)
        is_stored = self._is_stored(request)
        owner = answer.caller.key_id
        own = await self._own_items(request, answer.identity, answer.caller)
        items, functions = [*earlier, *own], Functions(request.tools)
        server.left_out_tools.note(left_out(request), answer)

        def keep(response: ResponseObject) -> None:
            if not is_stored and self._latest is None:
                return
            stored = StoredResponse(encode_json(response), items, response.output)
            if is_stored:
                self._store.add(owner, response.id, stored)
            if self._latest is not None:
                self._latest.keep(response.id, stored)

        answering = await _start(server, request, functions, items, answer)
        tokenizer = server.tokenizer if request.wants_logprobs else None
        logprobs = (
            ChatLogprobs(tokenizer, lists_chosen=bool(request.logprob_token_ids))
            if tokenizer
            else None
        )
        raw_messages = None
        if request.enable_response_messages and server.tokenizer is not None:
            raw_messages = RawMessages(server.tokenizer)
        return ResponseWriter(
            request,
            functions,
            answering,
            logprobs,
            keep,
            is_stored=is_stored,
            raw_messages=raw_messages,
        )

    async def count_tokens(
        self, server: ServerContext, request: ResponsesRequest, caller: Caller
    ) -> int:
        """Tokens of the prompt that the request would have.

        Raises:
            GlmserveError: the request cannot be honoured.
        """
        await server.settle_model(request)
        return len(await chat_prompt(server, await self.chat(request, caller)))

    async def chat(self, request: ResponsesRequest, caller: Caller) -> ChatCompletionRequest:
        """The chat completion request with the same prompt.

        Raises:
            InvalidRequestError: the request cannot be honoured.
        """
        own = await self._own_items(request, Identity(), caller)
        items = [*self._earlier_items(request, caller), *own]
        return await _chat(request, Functions(request.tools), items)

    async def _own_items(
        self, request: ResponsesRequest, identity: Identity, caller: Caller
    ) -> list[Item]:
        find = partial(self._store.find_item, caller.key_id)
        return await run_in_thread_if_large(
            lambda: input_items(request, identity, find), num_parts(request)
        )

    def _recorded_earlier_items(
        self, request: ResponsesRequest, answer: AnswerContext
    ) -> Sequence[Item]:
        """The earlier turns. A resumed answer has those with which it began."""
        if answer.journaled is None or request.previous_response_id is None:
            return self._earlier_items(request, answer.caller)
        notes = answer.journaled.endpoint_data(
            lambda: encode_json(self._earlier_items(request, answer.caller))
        )
        return msgspec.json.decode(notes, type=list[Item])

    def _earlier_items(self, request: ResponsesRequest, caller: Caller) -> Sequence[Item]:
        """The conversation that the request continues.

        Raises:
            InvalidRequestError: there is none of this name.
        """
        previous = request.previous_response_id
        if previous is None:
            return ()
        if self._latest is not None and (latest := self._latest.find(previous)) is not None:
            return (*latest.input, *latest.output)
        if not self._store.is_on and self._latest is None:
            raise InvalidRequestError(
                "this server keeps no responses (--response-store-size 0); send the whole "
                "conversation as input",
                "previous_response_id",
            )
        stored = self._store.find(caller.key_id, previous)
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
        if request.background and not self._store.is_on:
            raise InvalidRequestError(
                "background: this server keeps no responses (--response-store-size 0)", "background"
            )
        return self._store.is_on and request.store is not False


async def _start(
    server: ServerContext,
    request: ResponsesRequest,
    functions: Functions,
    items: Sequence[Item],
    answer: AnswerContext,
) -> ChatGeneration:
    """Start to answer the items, or the newest of them if the request allows that."""
    try:
        return await start_chat(server, await _chat(request, functions, items), answer)
    except ContextLengthError:
        if request.truncation != "auto":
            raise

    async def fits(items: Sequence[Item]) -> bool:
        chat = await _chat(request, functions, items)
        try:
            prompt = await chat_prompt(server, chat)
        except ContextLengthError:
            return False
        return len(prompt) + (chat.output_limit or 1) <= server.engine.info.limits.max_context

    newest = await shortened(fits, items)
    return await start_chat(server, await _chat(request, functions, newest), answer)


async def _chat(
    request: ResponsesRequest, functions: Functions, items: Sequence[Item]
) -> ChatCompletionRequest:
    chat = await run_in_thread_if_large(
        lambda: chat_request(request, functions, items), num_parts(request) + len(items)
    )
    if chat.logprobs and chat.tools and chat.tool_choice != "none":
        raise InvalidRequestError(
            "include: tokens of calls have no place in log-probabilities of text; send "
            "tool_choice 'none' with them, or no tools",
            "include",
        )
    return chat
