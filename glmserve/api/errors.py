"""Every failure as OpenAI's `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import logging
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.api.context import context_of
from glmserve.errors import (
    CrashingRequestError,
    GlmserveError,
    QueueFullError,
    RateLimitError,
)
from glmserve.process.tracebacks import origin

logger = logging.getLogger(__name__)

_CLIENT_CLOSED_REQUEST = 499  # nginx's number for it, seen only in the access log

_SENT_AWAY = (429, 503)  # for a while

_LONGEST_PATH = 200  # characters of a path that an error message repeats

_CODES = {404: "unknown_url", 405: "method_not_supported"}  # OpenAI's


def error_body(
    message: str, error_type: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The body of an error response, or the data of an error event in a stream."""
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def body_of(error: GlmserveError) -> dict[str, Any]:
    """The body that tells a client about this error."""
    return error_body(error.message, error.error_type, error.param, error.code)


async def answer_glmserve_error(request: Request, error: Exception) -> Response:
    """Handler for our own errors: each knows its status."""
    assert isinstance(error, GlmserveError)
    status = error.http_status
    headers = {}
    if isinstance(error, QueueFullError):
        status = context_of(request).config.queue_full_status
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif isinstance(error, CrashingRequestError | RateLimitError):
        headers["X-Should-Retry"] = "false"  # OpenAI's and Anthropic's clients heed it
    if error.code is not None and status in _SENT_AWAY:
        context_of(request).engine.stats.refused(error.code)
    return JSONResponse(body_of(error), status, headers)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Handler for what the router itself refuses: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:_LONGEST_PATH]
    message = {
        404: f"there is no {path} here; {_hint(request)}",
        405: f"{request.method} is not allowed on {path}",
    }.get(error.status_code, error.detail)
    body = error_body(message, "invalid_request_error", code=_CODES.get(error.status_code))
    return JSONResponse(body, error.status_code, error.headers)


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
    """The response cannot be completed; why is in the log already."""


class UnexpectedErrorMiddleware:
    """Answers 500 for a bug: where it is goes to the log, not to the client, and what the error
    says to neither.

    Starlette has its own place for this, but outside of all other middleware: its answers would
    lack the headers that those add.
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
            if (
                has_started
            ):  # the HTTP server cuts the connection, and has nothing of its own to log
                raise _CutOffError from None
            response = JSONResponse(error_body("internal error", "server_error"), 500)
            await response(scope, receive, send)
