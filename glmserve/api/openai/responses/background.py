"""Responses that are generated whether a client waits for them or not."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from glmserve.api.answering.client import never
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import AnswerRequest, AnswerWriter
from glmserve.api.answering.outcome import AnswerStream
from glmserve.api.answering.pipeline import answer
from glmserve.api.openai.responses.event_log import EventLog
from glmserve.api.openai.responses.objects import ResponseObject
from glmserve.api.openai.responses.writer import ResponseWriter
from glmserve.errors import GlmserveError

logger = logging.getLogger(__name__)

MAX_LOG_BYTES = 64 * 2**20
"""Of the events of all responses that have ended. The oldest are forgotten first."""

_Key = tuple[str | None, str]
"""An owner, and the id of a response."""


@dataclass
class BackgroundResponse:
    """A response that is being generated.

    Attributes:
        headers: of the first answer to the request.
        log: the events; None if the request asks for none.
    """

    writer: ResponseWriter
    headers: Mapping[str, str]
    log: EventLog | None
    task: asyncio.Task[None] = field(init=False)

    @property
    def response(self) -> ResponseObject:
        """What there is of it."""
        return self.writer.response


class BackgroundResponses:
    """Responses that are being generated in the background, by their owners and ids.

    With a journal, the next server finishes those that the end of this one interrupts.
    """

    def __init__(self, max_log_bytes: int = MAX_LOG_BYTES) -> None:
        self._running: dict[_Key, BackgroundResponse] = {}
        self._ended: OrderedDict[_Key, EventLog] = OrderedDict()
        """Events of streamed responses, the oldest first."""
        self._max_log_bytes = max_log_bytes

    async def start(self, server: ServerContext, request: AnswerRequest) -> BackgroundResponse:
        """Begin to generate; the response as it begins.

        Raises:
            GlmserveError: the request cannot be honoured now, or at all.
        """
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[BackgroundResponse] = loop.create_future()

        def on_start(writer: AnswerWriter, headers: Mapping[str, str]) -> None:
            assert isinstance(writer, ResponseWriter)
            if not begun.done():
                log = EventLog() if request.is_stream else None
                begun.set_result(BackgroundResponse(writer, dict(headers), log))

        detached = replace(request, client_left=never, on_start=on_start, is_detached=True)
        task = asyncio.create_task(_generate(server, detached, begun))
        task.add_done_callback(lambda _: begun.cancel())  # without effect once it has begun
        running = await begun
        running.task = task
        key = request.caller.key_id, running.response.id
        self._running[key] = running
        task.add_done_callback(lambda _: self._end(key, running))
        return running

    def find(self, owner: str | None, response_id: str) -> ResponseObject | None:
        """The response while it is generated."""
        running = self._running.get((owner, response_id))
        return running.response if running else None

    def find_log(self, owner: str | None, response_id: str) -> EventLog | None:
        """The events of a streamed response; None if there are none, or no longer."""
        running = self._running.get((owner, response_id))
        return running.log if running else self._ended.get((owner, response_id))

    async def cancel(self, owner: str | None, response_id: str) -> ResponseObject | None:
        """Stop generating; None if the response is not being generated."""
        running = self._running.get((owner, response_id))
        if running is None:
            return None
        running.task.cancel()
        await asyncio.wait([running.task])
        running.writer.cancel()
        return running.response

    def forget(self, owner: str | None, response_id: str) -> None:
        """Forget the events of a response."""
        self._ended.pop((owner, response_id), None)

    def _end(self, key: _Key, running: BackgroundResponse) -> None:
        self._running.pop(key, None)
        if running.log is None:
            return
        running.log.end()
        self._ended[key] = running.log
        while sum(log.size for log in self._ended.values()) > self._max_log_bytes:
            self._ended.popitem(last=False)


async def _generate(
    server: ServerContext, request: AnswerRequest, begun: asyncio.Future[BackgroundResponse]
) -> None:
    """Generate the answer. An error before it begins is raised to the client that has asked."""
    try:
        outcome = await answer(server, request)
        if isinstance(outcome, AnswerStream):
            await _write_log(outcome, begun.result())
        elif outcome.on_sent is not None:
            await outcome.on_sent()
    except Exception as error:
        if not begun.done():
            begun.set_exception(error)
            return
        if not isinstance(error, GlmserveError):
            logger.exception("a response in the background failed")
            error = GlmserveError("the server has failed")
        _fail(begun.result(), error)


async def _write_log(stream: AnswerStream, running: BackgroundResponse) -> None:
    assert running.log is not None
    try:
        async for event in stream.events():
            running.log.add(event)
        if running.response.status == "failed":
            running.writer.keep_failed()
        await stream.delivered()
    finally:
        stream.close()


def _fail(running: BackgroundResponse, error: GlmserveError) -> None:
    for event in running.writer.failure(error):
        if running.log is not None:
            running.log.add(event)
    running.writer.keep_failed()
