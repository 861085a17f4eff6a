"""GET and DELETE /v1/responses/{response_id}, and its input items"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.http.responses import json_response
from glmserve.api.http.state import caller_of
from glmserve.api.openai.responses.objects import DeletedResponse, InputItemList, Item
from glmserve.api.openai.responses.store import (
    ResponseNotFoundError,
    ResponseStore,
    StoredResponse,
)
from glmserve.errors import InvalidRequestError

_DEFAULT_PAGE, _LONGEST_PAGE = 20, 100  # items; OpenAI's


async def retrieve_response(request: Request) -> Response:
    """A stored response, as it was given."""
    _check_query(request, ())
    return Response(_find(request).body, media_type="application/json")


async def delete_response(request: Request) -> Response:
    """Forget a stored response. Responses that continue it do not need it."""
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
