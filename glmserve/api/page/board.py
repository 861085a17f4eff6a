"""GET /board/events: what the engine does, as a stream, for the board of the page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from glmserve.api.answering.sse import event
from glmserve.api.http.admin_key import check_admin_key
from glmserve.api.http.event_stream import EventsResponse
from glmserve.api.http.state import context_of
from glmserve.engine import StepWatch


async def board(request: Request) -> Response:
    """The page, with its board open."""
    return RedirectResponse("./#/board", 308)


async def board_events(request: Request) -> Response:
    """A Moment of the engine ten times a second. It has lengths and names of keys, and no text.

    A server with API keys shows it to the operator alone.

    Raises:
        AdminDisabledError, AuthenticationError: see check_admin_key.
    """
    context = context_of(request)
    if context.config.api_keys or context.config.admin_key is not None:
        check_admin_key(request)
    return EventsResponse(_events(context.engine.watch), {})


async def _events(watch: StepWatch) -> AsyncIterator[bytes]:
    async for moment in watch.read():
        yield event(moment)
