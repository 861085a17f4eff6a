"""The query of requests for lists: OpenAI's pages."""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request

from glmserve.errors import InvalidRequestError


def check_query(request: Request, known: Collection[str]) -> None:
    """Refuse what a list does not know.

    Raises:
        InvalidRequestError: names it.
    """
    for name in request.query_params:
        if name not in known:
            raise InvalidRequestError(
                f"{name[:100]!r} is not supported by this server; leave it out", name[:100]
            )


def page_limit(request: Request, default: int, most: int) -> int:
    """How many items a page may have.

    Raises:
        InvalidRequestError: it is no number from 1 to `most`.
    """
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 7 and 1 <= int(text) <= most):
        raise InvalidRequestError(f"limit must be a number from 1 to {most}", "limit")
    return int(text)


def is_ascending(request: Request) -> bool:
    """Whether the oldest item is to come first.

    Raises:
        InvalidRequestError: the order is neither asc nor desc.
    """
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("order must be 'asc' or 'desc'", "order")
    return order == "asc"
