"""Answers requests by a server, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec

from glmserve.api.batching.line import LineAnswer
from glmserve.batches.lines import InputLine
from glmserve.cli.batch.answer import Answer
from glmserve.errors import StartupError

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_LATER = (408, 429, 502, 503, 504)
"""Statuses of a server that may answer later."""
_DENIED = (401, 403)
"""Statuses that no further request will change."""
_LONGEST_PAUSE = 30.0  # seconds
_LONGEST_MESSAGE = 300  # characters of a server's error


class _LaterError(Exception):
    """The server may answer later.

    Args:
        reason: why it has not.
        seconds: after which it asks to be asked again; None: it does not say.
    """

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


@asynccontextmanager
async def remote_answers(
    url: str, api_key: str, at_once: int, retries: int
) -> AsyncIterator[Answer]:
    """What answers requests.

    Args:
        url: the server's, without /v1.
        api_key: empty: none.
        at_once: connections.
        retries: how often a request is asked again.
    """
    connections = _Connections(url, api_key)
    threads = ThreadPoolExecutor(at_once, "connection")
    loop = asyncio.get_running_loop()

    async def answer(line: InputLine) -> LineAnswer:
        for attempt in range(retries + 1):
            try:
                return await loop.run_in_executor(threads, connections.post, line)
            except _LaterError as error:
                reason, asked = error, error.seconds
            logger.debug("%s: %s", line.custom_id, reason)
            if attempt < retries:
                await asyncio.sleep(max(asked or 0.0, min(2.0**attempt, _LONGEST_PAUSE)))
        raise StartupError(f"{url} does not answer ({reason}); the same command goes on")

    try:
        yield answer
    finally:
        connections.shut_down()
        await asyncio.to_thread(threads.shutdown, cancel_futures=True)
        connections.close()


class _Connections:
    """One connection for each thread."""

    def __init__(self, url: str, api_key: str) -> None:
        parts = urlsplit(url)
        self._is_secure = parts.scheme == "https"
        self._host, self._root = parts.netloc, parts.path
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._own = threading.local()
        self._all: set[http.client.HTTPConnection] = set()
        self._is_closed = False

    def post(self, line: InputLine) -> LineAnswer:
        """Send a request, and wait for its answer.

        Raises:
            _LaterError: the server may answer later.
            StartupError: it will answer no request.
        """
        connection = self._connection()
        try:
            connection.request("POST", self._root + line.url, line.body, self._headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            raise _LaterError(str(error) or type(error).__name__) from None
        if response.status in _LATER:
            raise _LaterError(_message(response.status, body), _seconds(response))
        if response.status in _DENIED:
            raise StartupError(f"the server refuses: {_message(response.status, body)}")
        return LineAnswer(response.status, _one_line(response.status, body))

    def shut_down(self) -> None:
        """End all connections, so that no thread waits any more."""
        self._is_closed = True
        for connection in list(self._all):
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections, which no thread may use any more."""
        for connection in self._all:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if self._is_closed:
            raise _LaterError("stopped")
        if connection is None:
            kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
            connection = self._own.connection = kind(self._host, timeout=_CONNECT_SECONDS)
            self._all.add(connection)
        if connection.sock is None:
            try:
                _connect(connection)
            except OSError as error:
                raise _LaterError(str(error)) from None
        return connection

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._all.discard(connection)
        self._own.connection = None


def _connect(connection: http.client.HTTPConnection) -> None:
    connection.timeout = _CONNECT_SECONDS
    connection.connect()
    connection.sock.settimeout(None)  # an answer may take as long as it likes


def _one_line(status: int, body: bytes) -> bytes:
    """The body as JSON without line ends.

    Raises:
        _LaterError: it is no JSON, so it comes from something in front of the server.
    """
    try:
        return msgspec.json.format(body, indent=-1)
    except msgspec.DecodeError:
        raise _LaterError(f"status {status}, and no JSON") from None


def _message(status: int, body: bytes) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    return f"status {status}: {text[:_LONGEST_MESSAGE]}"


def _seconds(response: http.client.HTTPResponse) -> float | None:
    text = response.getheader("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None
