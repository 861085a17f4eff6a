"""uvicorn's HTTP/1 connection, with what it lacks towards old, odd and hostile clients."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from glmserve.api.errors import error_body
from glmserve.api.request_id import REQUEST_ID_HEADER, new_request_id

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

_LARGEST_HEAD = 64 * 2**10
"""Bytes of a request's first line and headers, or of a chunk's, or of trailers."""
_LINGER = 2.0
"""Seconds that a refused client gets to read why."""
_UPGRADE = re.compile(rb"(?<=\r\n)upgrade(?=:)", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    * A stream to an HTTP/1.0 client (nginx, unless told otherwise) is sent without chunk framing,
      which that version does not know, and ends with the connection.
    * An offer to speak another protocol is not heard. The parser would take what follows for that
      protocol, but it is the request's body: Java's client offers h2c with every POST.
    * A head without end is refused before it fills memory.
    * What is not HTTP is answered in OpenAI's shape.
    """

    _in_head = True
    _undigested = 0
    """Bytes since the parser last made something of them."""
    _is_refused = False

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._in_head:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"x-upgrade", head) + end + rest
        self._undigested += len(data)
        super().data_received(data)
        if self._undigested > _LARGEST_HEAD:
            self._refuse(431, f"the request's headers are larger than {_LARGEST_HEAD} bytes")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._undigested = 0
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0":
            # The cycle's task has been made, but has not begun.
            self.cycle.send = _UnframedSend(self.cycle)  # type: ignore[method-assign]

    def on_body(self, body: bytes) -> None:
        self._undigested = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._undigested = 0
        super().on_message_complete()

    def shutdown(self) -> None:
        """The server is going down."""
        super().shutdown()
        # TLS says goodbye and waits for the answer; an idle client does not read, so none comes.
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def _unsupported_upgrade_warning(self) -> None:
        """Not logged: CONNECT is answered like any other wrong method, and comes from anybody."""

    def send_400_response(self, msg: str) -> None:
        """Called by the parser's failure, which it has logged."""
        self._refuse(400, "the request is not valid HTTP/1.1")

    def _refuse(self, status: int, message: str) -> None:
        """Answer, and drop what still comes: closing at once could reset the answer away."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()  # a second answer in the middle of the first helps nobody
                return
        self.transport.write(self._refusal(status, message))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER, self.transport.close)

    def _refusal(self, status: int, message: str) -> bytes:
        body = msgspec.json.encode(error_body(message, "invalid_request_error"))
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (REQUEST_ID_HEADER.lower().encode(), new_request_id().encode()),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])


class _UnframedSend:
    """A cycle's `send` for HTTP/1.0: a body of unknown length ends with the connection."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._is_unframed = False

    async def __call__(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            self._is_unframed = b"content-length" not in names
            if self._is_unframed:
                self._cycle.chunked_encoding = False
        elif message["type"] == "http.response.body" and self._is_unframed:
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)
