"""/v1/responses as a WebSocket: OpenAI's WebSocket mode

A client sends `response.create` and gets the events of the response, each as a message. Responses
are answered one after another. Errors are events, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from glmserve.api.answering.client import ClientGoneError, unless_client_leaves
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import AnswerRequest
from glmserve.api.answering.failure import Failure, failure_of, openai_error
from glmserve.api.answering.outcome import AnswerStream
from glmserve.api.answering.pipeline import answer
from glmserve.api.answering.sse import encode_json
from glmserve.api.http.errors import error_response, status_of
from glmserve.api.http.socket import Socket, is_foreign
from glmserve.api.http.state import caller_of
from glmserve.api.openai.responses.create_event import ResponseCreateEvent
from glmserve.api.openai.responses.endpoint import ResponsesEndpoint
from glmserve.api.openai.responses.latest import LatestResponse
from glmserve.api.openai.responses.store import ResponseStore
from glmserve.api.protocol import parse_large_request
from glmserve.errors import GlmserveError
from glmserve.process.tracebacks import origin

logger = logging.getLogger(__name__)

_ERROR = b"event: error\n"
_INTERNAL_ERROR = 1011  # RFC 6455


class ResponsesConnections:
    """The ASGI application behind the route.

    Args:
        store: of all responses.
    """

    def __init__(self, server: ServerContext, store: ResponseStore) -> None:
        self._server = server
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_foreign(Headers(scope=scope), self._server.config.cors_origins):
            message = "web pages of other origins may not connect; --cors-origin allows them"
            failure = Failure(403, message, "invalid_request_error")
            await error_response(scope, failure)(scope, receive, send)
            return
        socket = Socket(scope, receive, send, scope["app"].state.body_memory)
        if not await socket.accept():
            return
        reading = asyncio.create_task(socket.read())
        try:
            with contextlib.suppress(ClientGoneError):
                await _Connection(self._server, self._store, scope, socket).run()
            await socket.close()
        except Exception as error:
            logger.error("unexpected error in %s: %s", type(self).__name__, origin(error))
            await socket.close(_INTERNAL_ERROR)
        finally:
            reading.cancel()


class _Connection:
    """The responses of one connection."""

    def __init__(
        self, server: ServerContext, store: ResponseStore, scope: Scope, socket: Socket
    ) -> None:
        self._server = server
        self._latest = LatestResponse()
        self._endpoint = ResponsesEndpoint(store, self._latest)
        self._caller = caller_of(HTTPConnection(scope))
        self._unknown_fields = scope["app"].state.unknown_fields
        self._socket = socket

    async def run(self) -> None:
        """Answer until the connection ends.

        Raises:
            ClientGoneError: the client left in the middle of an answer.
        """
        while (message := await self._socket.next()) is not None:
            body, memory = message
            previous = None
            try:
                with memory:
                    parsed = await parse_large_request(
                        ResponseCreateEvent, body, self._unknown_fields
                    )
                previous = parsed.previous_response_id
                has_failed = await self._answer(parsed)
            except GlmserveError as error:
                has_failed = True
                await self._socket.send(self._error_event(error))
            if has_failed:  # what has failed once is not tried on the same state again
                self._latest.forget(previous)

    async def _answer(self, parsed: ResponseCreateEvent) -> bool:
        """Send the events of one response; whether it has failed.

        Raises:
            ClientGoneError, GlmserveError: see `answer`.
        """
        left = self._socket.left
        request = AnswerRequest(self._endpoint, parsed, b"", self._caller, left, is_recorded=False)
        stream = await answer(self._server, request)
        assert isinstance(stream, AnswerStream)
        try:
            await unless_client_leaves(left, self._send_events(stream))
        finally:
            stream.close()
        return stream.has_failed

    async def _send_events(self, stream: AnswerStream) -> None:
        async for event in stream.events():
            if event.startswith(_ERROR):
                continue  # response.failed follows, and a response ends once
            _, _, data = event.partition(b"\ndata: ")
            await self._socket.send(data.decode().rstrip())

    def _error_event(self, error: GlmserveError) -> str:
        """In the shape of OpenAI's WebSocket mode, which is not that of a stream."""
        status = status_of(self._server, error)
        event = {"type": "error", "status": status, **openai_error(failure_of(error))}
        return encode_json(event).decode()
