"""POST /v1/responses, GET and DELETE /v1/responses/{response_id}, and its input items"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.body import read_request
from glmserve.api.caller import caller_of
from glmserve.api.chat_generation import ChatGeneration, start_chat
from glmserve.api.context import ServerContext, context_of
from glmserve.api.journaling.asked import Asked
from glmserve.api.journaling.recording import Recording
from glmserve.api.journaling.through import through_journal
from glmserve.api.logprobs import ChatLogprobs
from glmserve.api.offload import offload
from glmserve.api.openai_responses.conversation import (
    FIELD_NAMES,
    chat_request,
    input_items,
    num_parts,
)
from glmserve.api.openai_responses.objects import (
    DeletedResponse,
    InputItemList,
    Item,
    ResponseObject,
)
from glmserve.api.openai_responses.protocol import ResponsesRequest
from glmserve.api.openai_responses.store import (
    PreviousResponseNotFoundError,
    ResponseNotFoundError,
    ResponseStore,
    StoredResponse,
)
from glmserve.api.openai_responses.writer import ResponseWriter
from glmserve.api.renamed_fields import renamed_fields
from glmserve.api.responses import json_response
from glmserve.api.sse import encode_json, streamed
from glmserve.errors import InvalidRequestError

_DEFAULT_PAGE, _LONGEST_PAGE = 20, 100  # items; OpenAI's


async def create_response(request: Request) -> Response:
    """Answer the input, streamed or whole, and remember it if that is wanted."""
    context = context_of(request)
    wanted = await read_request(request, ResponsesRequest)
    context.check_model(wanted.model)
    return await through_journal(
        request, wanted.stream, lambda asked: _answer(request, context, wanted, asked)
    )


async def _answer(
    request: Request, context: ServerContext, wanted: ResponsesRequest, asked: Asked
) -> Response:
    earlier = _recorded_earlier_items(request, wanted, asked.recording)
    is_stored = _is_stored(_store_of(request), wanted)
    own = await offload(lambda: input_items(wanted, asked.identity), num_parts(wanted))
    items = [*earlier, *own]

    def keep(response: ResponseObject) -> None:
        if is_stored:
            stored = StoredResponse(encode_json(response), items, response.output)
            _store_of(request).add(caller_of(request).key_id, response.id, stored)

    answering = await _start(context, wanted, items, asked)
    logprobs = ChatLogprobs(context.tokenizer) if wanted.include and context.tokenizer else None
    writer = ResponseWriter(wanted, answering, logprobs, keep)
    if wanted.stream:
        return await streamed(request, answering.generation, writer.events())
    return json_response(await writer.whole(request))


async def retrieve_response(request: Request) -> Response:
    """A stored response, as it was given."""
    _check_query(request, ())
    return Response(_find(request).body, media_type="application/json")


async def delete_response(request: Request) -> Response:
    """Forget a stored response. Responses that go on from it do not need it."""
    response_id = request.path_params["response_id"]
    if not _store_of(request).remove(caller_of(request).key_id, response_id):
        raise _not_found(response_id)
    return json_response(DeletedResponse(response_id))


async def list_input_items(request: Request) -> Response:
    """The items that a stored response answers, those of earlier turns included, in pages."""
    _check_query(request, ("after", "limit", "order"))
    items = list(_find(request).input)
    if _order(request) == "desc":
        items.reverse()
    start, limit = _start_of_page(request, items), _limit(request)
    page = items[start : start + limit]
    return json_response(
        InputItemList(
            data=page,
            first_id=page[0].id if page else None,
            last_id=page[-1].id if page else None,
            has_more=start + limit < len(items),
        )
    )


def _store_of(request: Request) -> ResponseStore:
    store: ResponseStore = request.app.state.responses
    return store


def _recorded_earlier_items(
    request: Request, wanted: ResponsesRequest, recording: Recording | None
) -> Sequence[Item]:
    """The same when the request is answered once more, whatever has become of the store."""
    if recording is None or wanted.previous_response_id is None:
        return _earlier_items(request, wanted)
    notes = recording.note(lambda: encode_json(_earlier_items(request, wanted)))
    return msgspec.json.decode(notes, type=list[Item])


def _earlier_items(request: Request, wanted: ResponsesRequest) -> Sequence[Item]:
    """The conversation that the request goes on with."""
    previous = wanted.previous_response_id
    if previous is None:
        return ()
    store = _store_of(request)
    if not store.is_on:
        raise InvalidRequestError(
            "this server keeps no responses (--response-store-size 0); send the whole "
            "conversation as input",
            "previous_response_id",
        )
    stored = store.find(caller_of(request).key_id, previous)
    if stored is None:
        raise PreviousResponseNotFoundError(
            f"there is no response {previous[:100]!r} here, or no longer; send the whole "
            "conversation as input",
            "previous_response_id",
        )
    return (*stored.input, *stored.output)


def _is_stored(store: ResponseStore, wanted: ResponsesRequest) -> bool:
    if wanted.store and not store.is_on:
        raise InvalidRequestError(
            "this server keeps no responses (--response-store-size 0); leave store out or send "
            "false",
            "store",
        )
    return store.is_on and wanted.store is not False


async def _start(
    context: ServerContext, wanted: ResponsesRequest, items: Sequence[Item], asked: Asked
) -> ChatGeneration:
    with renamed_fields(FIELD_NAMES):
        chat = await offload(lambda: chat_request(wanted, items), num_parts(wanted) + len(items))
        if chat.logprobs and chat.tools and chat.tool_choice != "none":
            raise InvalidRequestError(
                "include: tokens of calls have no place in log-probabilities of text; send "
                "tool_choice 'none' with them, or no tools",
                "include",
            )
        return await start_chat(context, chat, asked)


def _find(request: Request) -> StoredResponse:
    response_id = request.path_params["response_id"]
    stored = _store_of(request).find(caller_of(request).key_id, response_id)
    if stored is None:
        raise _not_found(response_id)
    return stored


def _not_found(response_id: str) -> ResponseNotFoundError:
    return ResponseNotFoundError(f"there is no response {response_id[:100]!r} here, or no longer")


def _check_query(request: Request, known: Collection[str]) -> None:
    for name in request.query_params:
        if name not in known:
            raise InvalidRequestError(
                f"{name[:100]!r} is not supported by this server; leave it out", name[:100]
            )


def _order(request: Request) -> str:
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("order must be 'asc' or 'desc'", "order")
    return order


def _limit(request: Request) -> int:
    limit = request.query_params.get("limit", str(_DEFAULT_PAGE))
    if not (limit.isdecimal() and len(limit) < 4 and 1 <= int(limit) <= _LONGEST_PAGE):
        raise InvalidRequestError(f"limit must be a number from 1 to {_LONGEST_PAGE}", "limit")
    return int(limit)


def _start_of_page(request: Request, items: Sequence[Item]) -> int:
    after = request.query_params.get("after")
    if after is None:
        return 0
    for index, item in enumerate(items, 1):
        if item.id == after:
            return index
    raise InvalidRequestError(f"there is no item {after[:100]!r} in this response", "after")
