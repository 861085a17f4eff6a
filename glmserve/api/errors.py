"""Every failure as OpenAI's `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glmserve.api.context import context_of
from glmserve.errors import GlmserveError, NotReadyError, QueueFullError

logger = logging.getLogger(__name__)

_CLIENT_CLOSED_REQUEST = 499  # nginx's number for it, seen only in the access log

RETRY_AFTER = 1
"""Seconds after which a refused client may try again."""


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
    if isinstance(error, QueueFullError | NotReadyError):
        headers["Retry-After"] = str(RETRY_AFTER)
    return JSONResponse(body_of(error), status, headers)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Handler for what the router itself refuses: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    message = {
        404: f"there is no {request.url.path} here; /docs lists what there is",
        405: f"{request.method} is not allowed on {request.url.path}",
    }.get(error.status_code, error.detail)
    body = error_body(message, "invalid_request_error", code=None)
    return JSONResponse(body, error.status_code, dict(error.headers or {}))


async def answer_client_gone(request: Request, error: Exception) -> Response:
    """Handler for a client that left before its request or its answer was complete."""
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


async def answer_unexpected_error(request: Request, error: Exception) -> Response:
    """Handler for bugs: the details go to the log, not to the client."""
    logger.error("unexpected error on %s", request.url.path, exc_info=error)
    return JSONResponse(error_body("internal error", "server_error"), 500)
