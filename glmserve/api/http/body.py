"""The body of a request, read and checked within bounds of size and memory."""

from __future__ import annotations

from types import TracebackType

from starlette.requests import Request
from starlette.types import Message

from glmserve.api.protocol.parsing import Parsed, parse_large_request
from glmserve.api.protocol.unknown_fields import UnknownFields
from glmserve.errors import GlmserveError, NotReadyError

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


async def read_request(request: Request, model: type[Parsed]) -> tuple[Parsed, bytes]:
    """The body, checked, and its bytes.

    Raises:
        InvalidRequestError: the body does not match the model; the message says where and why.
        BodyTooLargeError, BodyEncodingError, NotReadyError, ClientDisconnect: see `_read_body`.
    """
    memory: BodyMemory = request.app.state.body_memory
    unknown: UnknownFields | None = request.app.state.unknown_fields
    with memory.reserve() as reservation:
        body = await _read_body(request, reservation, memory.largest_body)
        return await parse_large_request(model, body, unknown), body


async def read_whole(request: Request) -> tuple[bytes, Request]:
    """The body's bytes, and the request as it was before they were read.

    Raises:
        BodyTooLargeError, BodyEncodingError, NotReadyError, ClientDisconnect: see `_read_body`.
    """
    memory: BodyMemory = request.app.state.body_memory
    with memory.reserve() as reservation:
        body = await _read_body(request, reservation, memory.largest_body)
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        return next(messages, None) or await request.receive()

    return body, Request(request.scope, receive)


async def _read_body(request: Request, reservation: BodyReservation, limit: int) -> bytes:
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
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        reservation.add(len(chunk))
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    request.state.body_was_read = True  # for `UnreadBodyMiddleware`
    return bytes(body)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than this server's limit of {limit} bytes")


class BodyMemory:
    """The memory for all bodies that are being received and checked.

    Args:
        limit: bytes.
        largest_body: bytes of one body.
    """

    def __init__(self, limit: int, largest_body: int) -> None:
        self.free = limit
        """Bytes."""
        self.largest_body = largest_body

    def reserve(self) -> BodyReservation:
        """Memory for one request's body; to be used in a `with` statement."""
        return BodyReservation(self)


class BodyReservation:
    """The memory of one request's body; leaving it gives everything back."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._taken = 0

    def add(self, num_bytes: int) -> None:
        """Account for bytes that have arrived.

        Raises:
            NotReadyError: there is no memory for them.
        """
        if num_bytes > self._memory.free:
            raise NotReadyError(
                "other requests' bodies fill the memory that is kept for them; try again in a "
                "moment"
            )
        self._memory.free -= num_bytes
        self._taken += num_bytes

    def release(self) -> None:
        """Give everything back."""
        self._memory.free += self._taken
        self._taken = 0

    def __enter__(self) -> BodyReservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
