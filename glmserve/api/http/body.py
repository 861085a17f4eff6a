"""The body of a request, read within a bound."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from glmserve.api.http.body_memory import BodyMemory, Share
from glmserve.api.http.state import context_of
from glmserve.api.protocol.base import Parsed, parse_request
from glmserve.errors import GlmserveError

_LONG_BODY = 64 * 1024
"""Bytes from which on a thread checks the body, so that streams are not delayed."""

_LONGEST_NAME = 40  # characters of an encoding's name that an error message repeats


class BodyTooLargeError(GlmserveError):
    """413: the request body is larger than --max-body-size."""

    http_status = 413
    error_type = "invalid_request_error"
    code = "request_too_large"


class BodyEncodingError(GlmserveError):
    """415: the request body is compressed."""

    http_status = 415
    error_type = "invalid_request_error"
    code = "unsupported_content_encoding"


async def _read_body(request: Request, share: Share) -> bytes:
    """The request's whole body.

    Raises:
        BodyTooLargeError: it is too large, or says that it will be; no more than the limit is kept.
        BodyEncodingError: it is compressed.
        NotReadyError: other bodies leave no room for it.
        ClientDisconnect: the client left in the middle of it.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise BodyEncodingError(
            f"Content-Encoding {encoding[:_LONGEST_NAME]!r} is not supported; send the body plain"
        )
    limit = context_of(request).config.max_body_size
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        share.take(len(chunk))
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than this server's limit of {limit} bytes")


async def read_request(request: Request, model: type[Parsed]) -> tuple[Parsed, bytes]:
    """The body, checked, and its bytes.

    Raises:
        InvalidRequestError: it is no such request; the message says where and why.
        BodyTooLargeError, BodyEncodingError, NotReadyError, ClientDisconnect: see `_read_body`.
    """
    memory: BodyMemory = request.app.state.body_memory
    with memory.share() as share:
        body = await _read_body(request, share)
        if len(body) < _LONG_BODY:
            return parse_request(model, body), body
        return await asyncio.to_thread(parse_request, model, body), body
