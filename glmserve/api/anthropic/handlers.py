"""POST /v1/messages/count_tokens and /v1/messages/render"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.chat_generation import chat_prompt
from glmserve.api.answering.rendered_prompt import rendered_chat
from glmserve.api.anthropic.conversation import FIELD_NAMES
from glmserve.api.anthropic.endpoint import chat_of, check_thread
from glmserve.api.anthropic.errors import PromptTooLongError
from glmserve.api.anthropic.objects import TokenCount
from glmserve.api.anthropic.protocol import CountTokensRequest, MessagesRequest
from glmserve.api.http.body import read_request
from glmserve.api.http.request_id import own_or_new_id
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.errors import ContextLengthError, InvalidRequestError


async def count_tokens(request: Request) -> Response:
    """The number of tokens that the model would read to answer."""
    server = context_of(request)
    counted, _ = await read_request(request, CountTokensRequest)
    await server.find_model(counted.model)
    check_thread(counted)
    try:
        prompt_ids = await chat_prompt(server, await chat_of(counted))
    except InvalidRequestError as error:
        raise error.renamed(FIELD_NAMES) from None
    return json_response(TokenCount(len(prompt_ids)))


async def render_message(request: Request) -> Response:
    """The prompt of a conversation as token ids."""
    server = context_of(request)
    wanted, _ = await read_request(request, MessagesRequest)
    check_thread(wanted)
    name = f"msg_{own_or_new_id(request)}"
    try:
        chat = await chat_of(wanted)
        chat.stream = wanted.stream
        prompt = await rendered_chat(server, chat, name, cut_to_context=True)
    except ContextLengthError as error:
        raise PromptTooLongError.of(error) from None
    except InvalidRequestError as error:
        raise error.renamed(FIELD_NAMES) from None
    return json_response(prompt)
