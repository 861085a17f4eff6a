"""Feeds the lines of one batch to the server, as many at a time as it has places."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmserve.api.answering.caller import Caller
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.batching.line import (
    INTERNAL_ERROR,
    OK,
    LineAnswer,
    TryAgainError,
    answer_line,
)
from glmserve.api.batching.metrics import BatchMetrics
from glmserve.api.http.request_id import new_request_id
from glmserve.batches.answers import AnswerFiles
from glmserve.batches.lines import InputLine
from glmserve.batches.output_lines import answer_line as answered
from glmserve.batches.slabs import Slabs
from glmserve.process.tracebacks import origin

logger = logging.getLogger(__name__)

_PAUSE = 1.0
"""Seconds until a line is tried again that the server could not take."""
_DISK_PAUSE = 10.0
"""Seconds until an answer is written again that the disk did not take."""


class Feeder:
    """Answers the lines of a batch that are not answered yet.

    Args:
        endpoints: by their paths.
        caller: the sender of the lines' requests.
        places: for lines that are being answered, shared with other batches; the one that has
            waited longest is next, so batches take turns.
        answers: where the answers go.
    """

    def __init__(
        self,
        server: ServerContext,
        endpoints: Mapping[str, Endpoint[Any]],
        caller: Caller,
        places: asyncio.Semaphore,
        answers: AnswerFiles,
        metrics: BatchMetrics,
    ) -> None:
        self._server = server
        self._endpoints = endpoints
        self._caller = caller
        self._places = places
        self._answers = answers
        self._metrics = metrics
        self._disk_fails = False

    async def answer_all(self, path: Path, max_body_size: int, endpoint: str) -> None:
        """Answer the requests of a file that was checked.

        Raises:
            OSError: the file cannot be read.
        """
        tasks = set[asyncio.Task[None]]()

        def end(task: asyncio.Task[None]) -> None:
            tasks.remove(task)
            self._places.release()

        try:
            with Slabs(path, max_body_size, endpoint, self._answers.done) as slabs:
                async for slab in slabs:
                    for line in slab:
                        await self._places.acquire()
                        task = asyncio.create_task(self._answer(line))
                        tasks.add(task)
                        task.add_done_callback(end)
            while tasks:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            while tasks:
                await asyncio.wait(tasks)

    async def _answer(self, line: InputLine) -> None:
        request_id = new_request_id()
        status, body = await self._try_until_answered(line, request_id)
        record = answered(line.number, line.custom_id, request_id, status, body)
        await self._write(line.custom_id, record, has_failed=status != OK)
        self._metrics.lines["completed" if status == OK else "failed"] += 1

    async def _try_until_answered(self, line: InputLine, request_id: str) -> LineAnswer:
        while True:
            try:
                if not self._server.engine.is_draining:
                    return await answer_line(
                        self._server,
                        self._endpoints,
                        line.url,
                        line.body,
                        self._caller,
                        in_background=True,
                    )
            except TryAgainError as error:
                logger.debug("a line of a batch waits: %s", error)
            except Exception as error:  # a bug; the other lines are to be answered all the same
                logger.error(
                    "unexpected error in a line of a batch, request %s: %s",
                    request_id,
                    origin(error),
                )
                return INTERNAL_ERROR
            await asyncio.sleep(_PAUSE)

    async def _write(self, custom_id: str, record: bytes, *, has_failed: bool) -> None:
        """Write an answer. While the disk does not take it, the batch waits."""
        while True:
            try:
                await self._answers.add(custom_id, record, has_failed=has_failed)
                self._disk_fails = False
                return
            except OSError as error:
                self._metrics.write_failures += 1
                if not self._disk_fails:
                    logger.error("answers of a batch cannot be written, it waits: %s", error)
                self._disk_fails = True
                await asyncio.sleep(_DISK_PAUSE)
