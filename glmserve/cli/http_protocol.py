"""uvicorn's HTTP/1 connection, with what it lacks towards old, odd, slow and hostile clients."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from glmserve.cli.deadline import Deadline, DrainWatch
from glmserve.cli.http_refusal import refusal
from glmserve.cli.unframed_send import UnframedSend
from glmserve.config import ConnectionConfig

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

_LARGEST_HEAD = 64 * 2**10
"""Bytes of a request's first line and headers, or of a chunk's, or of trailers."""
_MOST_HEADERS = 256
_MOST_AHEAD = 64
"""Requests that a client may send ahead of their answers."""
_SLOWEST = 500.0
"""Bytes per second that a body must bring, and a reader must take, on average."""
_LINGER = 2.0
"""Seconds that a refused client gets to read why, and a surplus one to say what it wants."""
_SPARE = 32
"""Connections above the limit that are listened to: whoever asks for health is answered."""
_HEALTH = b"/health"
_TOO_MANY = "this server has too many connections; try again in a moment"
_NEVER = 365 * 24 * 3600.0
_UPGRADE = re.compile(rb"(?<=\r\n)upgrade(?=:)", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    * A stream to an HTTP/1.0 client (nginx, unless told otherwise) is sent without chunk framing,
      which that version does not know, and ends with the connection.
    * An offer to speak another protocol is not heard. The parser would take what follows for that
      protocol, but it is the request's body: Java's client offers h2c with every POST.
    * A head without end is refused before it fills memory, and trailers are dropped: no header
      comes after the checks of headers.
    * What is not HTTP is answered in OpenAI's shape.
    * A head or a body that does not come to its end in time is refused, a connection without a
      request is closed, and a client that does not read is cut off.
    * Where there are too many connections, health checks are answered and others are refused.
    """

    _in_head = True
    _has_begun = False
    """A request's first byte is here, and its last is not."""
    _undigested = 0
    """Bytes since the parser last made something of them."""
    _is_refused = False
    _is_surplus = False
    _running: RequestResponseCycle | None = None
    """The request that is being answered; `cycle` is the newest, which may have to wait for it."""
    _body_begin = 0.0
    _num_body_bytes = 0

    def __init__(self, limits: ConnectionConfig, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self.timeout_keep_alive = limits.idle_timeout or _NEVER  # type: ignore[assignment]
        self._deadline = Deadline(self.loop, self._client_is_late)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._drain_watch = DrainWatch(self.loop, transport, self._limits.write_timeout, _SLOWEST)
        surplus = len(self.connections) - self._limits.max_connections
        if surplus > _SPARE:
            self._is_refused = True
            self._write_refusal(503, _TOO_MANY)
            self._close()
        elif surplus > 0:
            self._is_surplus = True
            self._deadline.set(self.loop.time() + _LINGER)
        else:  # it may stay without a request for as long as after one
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        self._deadline.forget()
        self._drain_watch.stop()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

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
        if not self._is_refused:
            self._watch_client()

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
        self._undigested = 0
        if self._is_surplus and not self.url.startswith(_HEALTH):
            self._refuse(503, _TOO_MANY)
            return
        if len(self.headers) > _MOST_HEADERS:
            self._refuse(431, f"the request has more than {_MOST_HEADERS} headers")
            return
        self._body_begin, self._num_body_bytes = self.loop.time(), 0
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0":
            # The cycle's task has been made, but has not begun.
            self.cycle.send = UnframedSend(self.cycle)  # type: ignore[method-assign]
        self.cycle.keep_alive &= not self._is_surplus
        if len(self.pipeline) > _MOST_AHEAD:
            self._refuse(400, f"more than {_MOST_AHEAD} requests sent ahead of their answers")

    def on_body(self, body: bytes) -> None:
        if self._is_refused:
            return
        self._undigested = 0
        self._num_body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_refused:
            return
        self._in_head = True
        self._has_begun = False
        self._undigested = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        self._body_begin = self.loop.time()  # a request that had to wait was not read meanwhile
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
        if not self.transport.is_closing():  # or the rest would be waited for without end
            self._drain_watch.stop()

    def shutdown(self) -> None:
        """The server is going down."""
        super().shutdown()
        # TLS says goodbye and waits for the answer; an idle client does not read, so none comes.
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _watch_client(self) -> None:
        """Set the time by which the client has to go on, if it is the client's turn."""
        is_answering = self._running is not None and not self._running.response_complete
        if not self._in_head:
            self._watch_body()
        elif is_answering or not (self._has_begun or self._undigested):
            self._deadline.lift()
        elif not self._deadline.is_set and self._limits.header_timeout:
            self._unset_keepalive_if_required()
            self._deadline.set(self.loop.time() + self._limits.header_timeout)

    def _watch_body(self) -> None:
        """Each byte of a body gives it some time, but not more than the least rate allows."""
        timeout = self._limits.body_timeout
        if not timeout or self.cycle is not self._running or self.cycle.response_started:
            self._deadline.lift()  # nobody waits for it
            return
        longest = self._body_begin + self._num_body_bytes / _SLOWEST
        self._deadline.set(min(self.loop.time(), longest) + timeout)

    def _client_is_late(self) -> None:
        """The deadline is over."""
        if self._is_surplus:
            self._refuse(503, _TOO_MANY)
        elif self._in_head:
            self._refuse(408, "the request's headers did not come to their end in time")
        elif not self.cycle.response_started:
            self._refuse(408, "the request's body did not come to its end in time")

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
        self._deadline.forget()
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
            if running.response_started:
                self._close()  # a second answer in the middle of the first helps nobody
                return
        self._write_refusal(status, message)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER, self._close)

    def _write_refusal(self, status: int, message: str) -> None:
        self.transport.write(refusal(status, message, self.server_state.default_headers))

    def _close(self) -> None:
        """Close when everything is written, or when the client does not take it."""
        if not self.transport.is_closing():
            self.transport.close()
            self._drain_watch.start()
