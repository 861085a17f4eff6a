"""/v1/responses: answers in the background, and stored responses"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.pipeline import answer
from glmserve.api.answering.rendered_prompt import rendered_chat
from glmserve.api.http.body import read_request
from glmserve.api.http.endpoint import read_answer_request
from glmserve.api.http.event_stream import EventsResponse
from glmserve.api.http.request_id import own_or_new_id
from glmserve.api.http.responses import answer_response, json_response
from glmserve.api.http.state import caller_of, context_of
from glmserve.api.openai.responses.background import BackgroundResponses
from glmserve.api.openai.responses.endpoint import ResponsesEndpoint
from glmserve.api.openai.responses.objects import (
    DeletedResponse,
    InputItemList,
    InputTokenCount,
    Item,
)
from glmserve.api.openai.responses.store import (
    ResponseNotFoundError,
    ResponseStore,
    StoredResponse,
)
from glmserve.errors import InvalidRequestError

_INCLUDE = ("include", "include[]")
"""Asks for what these responses do not have, or have in any case."""
_DEFAULT_PAGE, _LONGEST_PAGE = 20, 100  # items; OpenAI's


def create_response(
    endpoint: ResponsesEndpoint, server: ServerContext
) -> Callable[[Request], Awaitable[Response]]:
    """The handler of POST /v1/responses: answers, now or in the background."""

    async def handle(request: Request) -> Response:
        wanted = await read_answer_request(request, endpoint, server)
        if wanted.parsed.background:
            running = await _background_of(request).start(server, wanted)
            if running.log is not None:
                return EventsResponse(running.log.read(), running.headers)
            queued = msgspec.structs.replace(running.response, status="queued")
            return json_response(queued, headers=running.headers)
        return answer_response(await answer(server, wanted))

    return handle


def count_input_tokens(endpoint: ResponsesEndpoint) -> Callable[[Request], Awaitable[Response]]:
    """The handler of POST /v1/responses/input_tokens: the length of a request's prompt."""

    async def handle(request: Request) -> Response:
        server, caller = context_of(request), caller_of(request)
        parsed, _ = await read_request(request, endpoint.request_type)
        try:
            count = await endpoint.count_tokens(server, parsed, caller)
        except InvalidRequestError as error:
            raise error.renamed(endpoint.field_names) from None
        return json_response(InputTokenCount(count))

    return handle


def render_response(endpoint: ResponsesEndpoint) -> Callable[[Request], Awaitable[Response]]:
    """The handler of POST /v1/responses/render: a request's prompt as token ids."""

    async def handle(request: Request) -> Response:
        server, caller = context_of(request), caller_of(request)
        parsed, _ = await read_request(request, endpoint.request_type)
        await server.settle_model(parsed)
        try:
            chat = await endpoint.chat(parsed, caller)
            prompt = await rendered_chat(server, chat, f"resp_{own_or_new_id(request)}")
        except InvalidRequestError as error:
            raise error.renamed(endpoint.field_names) from None
        return json_response(prompt)

    return handle


async def cancel_response(request: Request) -> Response:
    """Stop a response in the background; one that has ended stays as it is."""
    owner, response_id = caller_of(request).key_id, request.path_params["response_id"]
    cancelled = await _background_of(request).cancel(owner, response_id)
    if cancelled is not None:
        return json_response(cancelled)
    body = _find(request).body
    if not msgspec.json.decode(body)["background"]:
        raise InvalidRequestError(
            "Cannot cancel a synchronous response. Only one in the background can be cancelled",
            "background",
        )
    return Response(body, media_type="application/json")


async def retrieve_response(request: Request) -> Response:
    """A stored response, as it was given, or what there is of one in the background."""
    _check_query(request, ("stream", "starting_after", *_INCLUDE))
    owner, response_id = caller_of(request).key_id, request.path_params["response_id"]
    start = _first_event(request)
    if start is not None:
        return _stream_again(request, owner, response_id, start)
    running = _background_of(request).find(owner, response_id)
    if running is not None:
        return json_response(running)
    return Response(_find(request).body, media_type="application/json")


def _stream_again(
    request: Request, owner: str | None, response_id: str, start: int
) -> EventsResponse:
    """The events of a response in the background, from index `start` on."""
    log = _background_of(request).find_log(owner, response_id)
    if log is None:
        _find(request)
        raise InvalidRequestError(
            "this response has no events to stream: they are kept of responses that were created "
            "with background and stream, until the server ends; leave stream out",
            "stream",
        )
    return EventsResponse(log.read(start), {})


def _first_event(request: Request) -> int | None:
    """The index of the first event that is asked for; None if none is."""
    stream = request.query_params.get("stream", "false")
    after = request.query_params.get("starting_after")
    if stream not in ("true", "false"):
        raise InvalidRequestError("stream must be true or false", "stream")
    if after is None:
        return 0 if stream == "true" else None
    if stream == "false":
        raise InvalidRequestError("starting_after goes with stream=true", "starting_after")
    if not (after.isascii() and after.isdecimal() and len(after) < 10):
        raise InvalidRequestError(
            "starting_after must be the sequence_number of an event", "starting_after"
        )
    return int(after) + 1


async def delete_response(request: Request) -> Response:
    """Forget a stored response. Responses that continue it do not need it."""
    owner, response_id = caller_of(request).key_id, request.path_params["response_id"]
    await _background_of(request).cancel(owner, response_id)
    _background_of(request).forget(owner, response_id)
    if not _store_of(request).remove(owner, response_id):
        raise _not_found(response_id)
    return json_response(DeletedResponse(response_id))


async def list_input_items(request: Request) -> Response:
    """The items that a stored response answers, those of earlier turns included, in pages."""
    _check_query(request, ("after", "limit", "order", *_INCLUDE))
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


def _background_of(request: Request) -> BackgroundResponses:
    background: BackgroundResponses = request.app.state.background
    return background


def _find(request: Request) -> StoredResponse:
    response_id = request.path_params["response_id"]
    stored = _store_of(request).find(caller_of(request).key_id, response_id)
    if stored is None:
        raise _not_found(response_id)
    return stored


def _not_found(response_id: str) -> ResponseNotFoundError:
    return ResponseNotFoundError(  # as OpenAI says it
        f"Response with id '{response_id[:100]}' not found. It was not stored here, or is forgotten"
    )


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
