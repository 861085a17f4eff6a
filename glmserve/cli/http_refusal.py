"""Error responses of the HTTP connection to requests that do not reach the application."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from glmserve.api.answering.failure import Failure, openai_error
from glmserve.api.http.request_id import REQUEST_ID_HEADER, new_request_id
from glmserve.errors import NotReadyError


def refusal(status: int, message: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bytes of a response with an error in OpenAI's format. The connection closes after it.

    Args:
        status: HTTP status.
        headers: default headers of all responses.
    """
    error_type = "server_error" if status >= 500 else "invalid_request_error"
    body = msgspec.json.encode(openai_error(Failure(status, message, error_type)))
    headers = [
        *headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        (REQUEST_ID_HEADER.lower().encode(), new_request_id().encode()),
    ]
    if status == 503:
        headers.append((b"retry-after", b"%d" % NotReadyError.retry_after))
    lines = [name + b": " + value + b"\r\n" for name, value in headers]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])
