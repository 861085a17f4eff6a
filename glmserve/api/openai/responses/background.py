"""Responses that are generated while no client waits for them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from glmserve.api.answering.client import never
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import AnswerRequest, AnswerWriter
from glmserve.api.answering.outcome import WholeAnswer
from glmserve.api.answering.pipeline import answer
from glmserve.api.openai.responses.objects import ResponseObject
from glmserve.api.openai.responses.writer import ResponseWriter
from glmserve.errors import GlmserveError

logger = logging.getLogger(__name__)

_Key = tuple[str | None, str]
"""An owner, and the id of a response."""


class BackgroundResponses:
    """Responses that are being generated in the background, by their owners and ids.

    With a journal, the next server finishes those that the end of this one interrupts.
    """

    def __init__(self) -> None:
        self._running: dict[_Key, tuple[ResponseWriter, asyncio.Task[None]]] = {}

    async def start(self, server: ServerContext, request: AnswerRequest) -> ResponseObject:
        """Begin to generate; the response as it begins.

        Raises:
            GlmserveError: the request cannot be honoured now, or at all.
        """
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[ResponseWriter] = loop.create_future()

        def on_start(writer: AnswerWriter) -> None:
            assert isinstance(writer, ResponseWriter)
            if not begun.done():
                begun.set_result(writer)

        detached = replace(request, client_left=never, on_start=on_start)
        task = asyncio.create_task(_generate(server, detached, begun))
        task.add_done_callback(lambda _: begun.cancel())  # without effect once it has begun
        writer = await begun
        key = request.caller.key_id, writer.response.id
        self._running[key] = writer, task
        task.add_done_callback(lambda _: self._running.pop(key, None))
        return writer.response

    def find(self, owner: str | None, response_id: str) -> ResponseObject | None:
        """The response while it is generated."""
        running = self._running.get((owner, response_id))
        return running[0].response if running else None

    async def cancel(self, owner: str | None, response_id: str) -> ResponseObject | None:
        """Stop generating; None if the response is not being generated."""
        running = self._running.pop((owner, response_id), None)
        if running is None:
            return None
        writer, task = running
        task.cancel()
        await asyncio.wait([task])
        writer.cancel()
        return writer.response


async def _generate(
    server: ServerContext, request: AnswerRequest, begun: asyncio.Future[ResponseWriter]
) -> None:
    """Generate the answer. An error before it begins is raised to the client that has asked."""
    try:
        outcome = await answer(server, request)
        assert isinstance(outcome, WholeAnswer)
        if outcome.on_sent is not None:
            await outcome.on_sent()
    except Exception as error:
        if not begun.done():
            begun.set_exception(error)
            return
        if not isinstance(error, GlmserveError):
            logger.exception("a response in the background failed")
            error = GlmserveError("the server has failed")
        begun.result().fail(error)
