"""Renders every failure in the shape of the API that the path belongs to."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.failure import Failure, failure_of, openai_error
from glmserve.api.http.state import context_of
from glmserve.errors import (
    CrashingRequestError,
    GlmserveError,
    QueueFullError,
    RateLimitError,
)
from glmserve.process.tracebacks import origin

logger = logging.getLogger(__name__)

ErrorShape = Callable[[Failure], bytes]
"""Makes the JSON body of an error response."""

_CLIENT_CLOSED_REQUEST = 499  # nginx's number for it; no client sees it

_SENT_AWAY = (429, 503)  # for a while

_LONGEST_PATH = 200  # characters of a path that an error message repeats

_CODES = {404: "unknown_url", 405: "method_not_supported"}  # OpenAI's


def error_response(
    scope: Scope,
    error: GlmserveError | Failure,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response that tells a client about a failure.

    Args:
        status: other than the error's own.
    """
    failure = failure_of(error) if isinstance(error, GlmserveError) else error
    failure = failure._replace(
        status=status or failure.status, request_id=scope.get("state", {}).get("request_id")
    )
    body = _shape_of(scope)(failure)
    return Response(body, failure.status, headers, media_type="application/json")


def _shape_of(scope: Scope) -> ErrorShape:
    """The shape that `app.state.error_shapes` has for the path or for a parent of it."""
    path: str = scope["path"]
    shapes: Mapping[str, ErrorShape] = scope["app"].state.error_shapes
    for prefix, shape in shapes.items():
        if path == prefix or path.startswith(prefix + "/"):
            return shape
    return _openai_shape


def _openai_shape(failure: Failure) -> bytes:
    return json.dumps(
        openai_error(failure), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()


async def answer_glmserve_error(request: Request, error: Exception) -> Response:
    """Handler for our own errors: each knows its status."""
    assert isinstance(error, GlmserveError)
    status = status_of(context_of(request), error)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif isinstance(error, CrashingRequestError | RateLimitError):
        headers["X-Should-Retry"] = "false"  # OpenAI's and Anthropic's clients heed it
    return error_response(request.scope, error, status, headers)


def status_of(server: ServerContext, error: GlmserveError) -> int:
    """The status that tells a client of an error. Those sent away for a while are counted."""
    status = error.http_status
    if isinstance(error, QueueFullError):
        status = server.config.queue_full_status
    if error.code is not None and status in _SENT_AWAY:
        server.engine.stats.refused(error.code)
    return status


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Handler for what the router itself refuses: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    status, path = error.status_code, request.scope["path"][:_LONGEST_PATH]
    message = {
        404: f"there is no {path} here; {_hint(request)}",
        405: f"{request.method} is not allowed on {path}",
    }.get(status, error.detail)
    failure = Failure(status, message, "invalid_request_error", code=_CODES.get(status))
    return error_response(request.scope, failure, headers=error.headers)


def _hint(request: Request) -> str:
    """The path that was meant, where /v1 is missing or doubled, or a slash is too many."""
    path = "/" + "/".join(part for part in request.scope["path"].split("/") if part)
    for route in request.app.routes:
        if isinstance(route, Route) and path.endswith(route.path.removeprefix("/v1")):
            return f"did you mean {route.path}?"
    return "/docs lists what there is"


async def answer_client_gone(request: Request, error: Exception) -> Response:
    """Handler for a client that left before its request or its answer was complete."""
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


class _CutOffError(Exception):
    """The response cannot be completed; the log already says why."""


class UnexpectedErrorMiddleware:
    """Answers 500 for a bug. The log gets the place of the bug, never the error's own words.

    Starlette has its own handler for this, but outside of all other middleware: its answers would
    lack the headers that the middleware adds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def watched_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception as error:
            request_id = scope.get("state", {}).get("request_id")
            place = getattr(scope.get("endpoint"), "__name__", None)
            logger.error("unexpected error in %s, request %s: %s", place, request_id, origin(error))
            if has_started:  # the HTTP server cuts the connection, and has nothing more to log
                raise _CutOffError from None
            response = error_response(scope, Failure(500, "internal error", "server_error"))
            await response(scope, receive, send)
