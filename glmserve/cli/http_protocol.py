"""uvicorn's HTTP/1 connection, hardened against old, unusual, slow and hostile clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from glmserve.api.http.event_stream import BODY_SINK
from glmserve.cli.body_sink import BodySink
from glmserve.cli.deadline import MIN_BYTES_PER_SECOND, Deadline, DrainWatch
from glmserve.cli.http_refusal import refusal
from glmserve.cli.request_bytes import IGNORED_UPGRADE, RequestBytes
from glmserve.cli.unframed_send import UnframedSend
from glmserve.cli.websocket_protocol import WebSocketProtocol
from glmserve.cli.write_pass import WritePass
from glmserve.config import ConnectionConfig

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

_MAX_HEAD_BYTES = 64 * 2**10
"""Bytes of a request's first line and headers, of a chunk's header, or of trailers."""
_MAX_HEADERS = 256
_MAX_PIPELINED = 64
"""Requests that a client may send before it has the answers of earlier ones."""
_LINGER_SECONDS = 2.0
"""Seconds for a refused client to read the answer, and for a connection above the limit to send its
request."""
_FIRST_REQUEST_SECONDS = 1.0
"""Seconds for a new connection to send its request when the server shuts down. The client could not
know that, and closing its connection at once would answer it with nothing."""
_MAX_OVER_LIMIT = 32
"""Connections above the limit that are still read, so that health checks are answered."""
_HEALTH = b"/health"
_WEBSOCKET_PATH = b"/responses"
"""The end of the paths with WebSockets, whatever prefix they have."""
_TOO_MANY = "this server has too many connections; try again in a moment"
_ENDING = "this server is shutting down; try another, or later"
_ONE_YEAR = 365 * 24 * 3600.0


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    * A stream to an HTTP/1.0 client (nginx by default) has no chunk framing, which that version
      does not know. It ends with the connection.
    * An offer to upgrade to another protocol is ignored, except to WebSocket where there is one.
    * A head that is too large is refused before it fills memory. Trailers are dropped, so that no
      header escapes the checks.
    * Data that is not HTTP gets an error in OpenAI's format.
    * A head or a body that is not complete in time is refused, a connection without a request is
      closed, and the connection of a client that does not read is aborted.
    * If there are too many connections, health checks are answered and other requests are refused.
    """

    _in_head = True
    _has_begun = False
    """Whether a request has begun and is not complete."""
    _num_unparsed_bytes = 0
    """Bytes received since the parser's last callback."""
    _is_refused = False
    _is_over_limit = False
    _is_upgraded = False
    _is_last = False
    """Whether the connection ends with its first request: the server is shutting down."""
    _running: RequestResponseCycle | None = None
    """The request that is being answered. `cycle` is the newest one, which may have to wait."""
    _body_begin = 0.0
    _num_body_bytes = 0
    _body_length: int | None = None
    """The Content-Length; None: the body is in chunks."""

    def __init__(
        self,
        limits: ConnectionConfig,
        new_websocket: Callable[[], WebSocketProtocol],
        write_pass: WritePass,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._new_websocket = new_websocket
        self._write_pass = write_pass
        self._bytes = RequestBytes()
        self.timeout_keep_alive = limits.idle_timeout or _ONE_YEAR  # type: ignore[assignment]
        self._deadline = Deadline(self.loop, self._client_is_late)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._drain_watch = DrainWatch(
            self.loop, transport, self._limits.write_timeout, MIN_BYTES_PER_SECOND
        )
        num_over_limit = len(self.connections) - self._limits.max_connections
        if num_over_limit > _MAX_OVER_LIMIT:
            self._is_refused = True
            self._write_refusal(503, _TOO_MANY)
            self._close()
        elif num_over_limit > 0:
            self._is_over_limit = True
            self._deadline.set(self.loop.time() + _LINGER_SECONDS)
        else:  # the idle time-out holds before the first request, too
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        self._deadline.close()
        self._drain_watch.stop()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        while data and not self._is_refused:
            part, data = self._next_part(data)
            self._num_unparsed_bytes += len(part)
            super().data_received(part)
            if self._is_upgraded and not self._is_refused:
                self._hand_over(data)
                return
            if self._num_unparsed_bytes > _MAX_HEAD_BYTES:
                self._refuse(431, f"the request's headers are larger than {_MAX_HEAD_BYTES} bytes")
        if not self._is_refused:
            self._watch_client()

    def _next_part(self, data: bytes) -> tuple[bytes, bytes]:
        """Bytes for the parser that end with the head or body or before, and the bytes after."""
        if self._in_head:
            return self._bytes.head_part(data)
        length = self._body_length
        num_left = None if length is None else length - self._num_body_bytes
        return self._bytes.body_part(data, num_left)

    def on_message_begin(self) -> None:
        self._has_begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_refused:
            return
        self._in_head = False
        self._num_unparsed_bytes = 0
        if self._is_over_limit and not self.url.startswith(_HEALTH):
            self._refuse(503, _TOO_MANY)
            return
        if len(self.headers) > _MAX_HEADERS:
            self._refuse(431, f"the request has more than {_MAX_HEADERS} headers")
            return
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse(400, "this server speaks HTTP/1.1 and HTTP/1.0")
            return
        if self._bytes.found_upgrade and self._offers_websocket():
            if self._is_last:
                self._refuse(503, _ENDING)
            else:
                self._is_upgraded = True
            return
        self._body_begin, self._num_body_bytes = self.loop.time(), 0
        length = dict(self.headers).get(b"content-length")
        self._body_length = None if length is None else int(length)
        super().on_headers_complete()
        # The cycle's task exists, but has not started.
        if version == "1.0":
            self.cycle.send = UnframedSend(self.cycle)  # type: ignore[method-assign]
        self.scope["extensions"] = {BODY_SINK: {"sink": self._new_sink(version)}}
        self.cycle.keep_alive &= not (self._is_over_limit or self._is_last)
        if len(self.pipeline) > _MAX_PIPELINED:
            self._refuse(400, f"more than {_MAX_PIPELINED} requests sent ahead of their answers")

    def _new_sink(self, version: str) -> BodySink:
        return BodySink(self.transport, self.flow, self._write_pass, is_chunked=version == "1.1")

    def on_body(self, body: bytes) -> None:
        if self._is_refused:
            return
        self._num_unparsed_bytes = 0
        self._num_body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_refused or self._is_upgraded:
            return
        self._in_head = True
        self._has_begun = False
        self._num_unparsed_bytes = 0
        self._bytes.found_upgrade = False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        self._body_begin = self.loop.time()  # a waiting request is not read
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._drain_watch.start()
        if not self.transport.is_closing():
            self._watch_client()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._drain_watch.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():  # else the check of the last bytes must go on
            self._drain_watch.stop()

    def shutdown(self) -> None:
        """Close the connection when the server shuts down, after its request if it has one, or if
        it is new."""
        if self.cycle is None and not self._is_refused:
            self._is_last = True
            self.loop.call_later(_FIRST_REQUEST_SECONDS, self._close_without_request)
            return
        super().shutdown()
        # TLS waits for the client's close message, which an idle client does not send.
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def _close_without_request(self) -> None:
        if self.cycle is None:
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _watch_client(self) -> None:
        """Set the deadline for the client, if the server waits for it."""
        is_answering = self._running is not None and not self._running.response_complete
        if not self._in_head:
            self._watch_body()
        elif is_answering or not (self._has_begun or self._num_unparsed_bytes):
            self._deadline.clear()
        elif not self._deadline.is_set and self._limits.header_timeout:
            self._unset_keepalive_if_required()
            self._deadline.set(self.loop.time() + self._limits.header_timeout)

    def _watch_body(self) -> None:
        """Extend the deadline of a body with each byte, as far as the minimum rate allows."""
        timeout = self._limits.body_timeout
        if not timeout or self.cycle is not self._running or self.cycle.response_started:
            self._deadline.clear()  # the application does not wait for the body
            return
        longest = self._body_begin + self._num_body_bytes / MIN_BYTES_PER_SECOND
        self._deadline.set(min(self.loop.time(), longest) + timeout)

    def _client_is_late(self) -> None:
        """Refuse the request: the deadline has expired."""
        if self._is_over_limit:
            self._refuse(503, _TOO_MANY)
        elif self._in_head:
            self._refuse(408, "the request's headers did not come to their end in time")
        elif not self.cycle.response_started:
            self._refuse(408, "the request's body did not come to its end in time")

    def _offers_websocket(self) -> bool:
        """Whether the head that was read is a handshake for a path with WebSockets."""
        headers = dict(self.headers)
        is_answering = self._running is not None and not self._running.response_complete
        return (
            headers.get(IGNORED_UPGRADE, b"").lower() == b"websocket"
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and not {b"content-length", b"transfer-encoding"} & headers.keys()
            and self.url.partition(b"?")[0].rstrip(b"/").endswith(_WEBSOCKET_PATH)
            and not is_answering
            and not self.pipeline
        )

    def _hand_over(self, data: bytes) -> None:
        """Let the WebSocket protocol go on with the connection, from the handshake's head on.

        Args:
            data: received bytes behind the head.
        """
        self._is_refused = True  # nothing more is read here
        self._unset_keepalive_if_required()
        self._deadline.close()
        self._drain_watch.stop()
        self.connections.discard(self)
        head = [b"GET ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            head += [b"upgrade" if name == IGNORED_UPGRADE else name, b": ", value, b"\r\n"]
        protocol = self._new_websocket()
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.start(b"".join([*head, b"\r\n"]), data)

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: any client can send CONNECT, which is answered as a wrong method."""

    def send_400_response(self, msg: str) -> None:
        """Called when the parser has failed and logged it."""
        self._refuse(400, "the request is not valid HTTP/1.1")

    def _refuse(self, status: int, message: str) -> None:
        """Send an error and ignore further data. Closing at once could reset the connection before
        the client reads the error."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self._deadline.close()
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
            if running.response_started:
                self._close()  # the response has begun: no error can be sent
                return
        self._write_refusal(status, message)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self._close)

    def _write_refusal(self, status: int, message: str) -> None:
        self.transport.write(refusal(status, message, self.server_state.default_headers))

    def _close(self) -> None:
        """Close when everything is sent, or when the client does not read it."""
        if not self.transport.is_closing():
            self.transport.close()
            self._drain_watch.start()
