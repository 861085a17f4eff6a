"""Runs the batches of a server, several at a time, until the server ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from glmserve.api.answering.caller import Caller
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.batching.job import BatchJob, JobResources
from glmserve.api.batching.metrics import BatchMetrics
from glmserve.api.batching.objects import RequestCounts
from glmserve.batches.errors import StorageError
from glmserve.batches.records import BatchRecord
from glmserve.batches.storage import BatchStorage

logger = logging.getLogger(__name__)

_AT_ONCE = 16
"""Batches that run at the same time."""
_TIDY_SECONDS = 60.0
"""Between two looks for expired files, and for keys that are back."""


class BatchRunner:
    """Accepts, runs and cancels batches.

    Args:
        endpoints: by their paths.
        callers: the holders of the server's API keys, by their names as owners of files.
    """

    def __init__(
        self,
        server: ServerContext,
        storage: BatchStorage,
        endpoints: Mapping[str, Endpoint[Any]],
        callers: Mapping[str, Caller],
    ) -> None:
        self.storage = storage
        self.metrics = BatchMetrics(lambda: storage.num_bytes, lambda: len(self._unfinished))
        server.engine.stats.registry.register(self.metrics)
        self._server = server
        self._endpoints = endpoints
        self._callers = callers
        self._unfinished: dict[str, BatchRecord] = {}  # by id, the oldest first
        self._jobs: dict[str, BatchJob] = {}  # those that run, by id
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run batches until cancelled; those that are unfinished then go on with the next server.

        Batches of keys that this server does not have wait.
        """
        await self._recover()
        places = asyncio.Semaphore(self._server.engine.max_running)
        resources = JobResources(self._server, self.storage, self._endpoints, self.metrics, places)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tidy())
            while True:
                self._changed.clear()
                while (batch := self._next()) is not None:
                    job = BatchJob(resources, batch, self._callers[batch.owner])
                    self._jobs[batch.id] = job
                    group.create_task(self._run(job))
                await self._changed.wait()

    async def add(self, batch: BatchRecord) -> None:
        """Accept a new batch.

        Raises:
            TooManyBatchesError, StoredFileNotFoundError, StorageError: see BatchStorage.add_batch.
        """
        await self.storage.add_batch(batch)
        self._unfinished[batch.id] = batch
        self._changed.set()

    async def cancel(self, batch: BatchRecord) -> BatchRecord:
        """Cancel a batch; one that has ended stays as it is. Returns its present state.

        Raises:
            StorageError: it cannot be written.
        """
        own = self._unfinished.get(batch.id)
        if own is None or own.status not in ("validating", "in_progress"):
            return own or batch
        own.enter("cancelling", self.storage.now())
        if (job := self._jobs.get(own.id)) is not None:
            job.cancel()
        await self.storage.update_batch(own)
        return own

    def counts(self, batch: BatchRecord) -> RequestCounts:
        """The lines of a batch that are answered by now."""
        job = self._jobs.get(batch.id)
        if job is not None and job.answers is not None:
            answers = job.answers
            return RequestCounts(batch.total, answers.num_completed, answers.num_failed)
        return RequestCounts(batch.total, batch.completed, batch.failed)

    def _next(self) -> BatchRecord | None:
        """The next batch to run: of the owner with the fewest that run, the oldest."""
        if len(self._jobs) >= _AT_ONCE:
            return None
        running = Counter(job.batch.owner for job in self._jobs.values())
        waiting = [
            batch
            for batch in self._unfinished.values()
            if batch.id not in self._jobs and batch.owner in self._callers
        ]
        return min(waiting, key=lambda batch: running[batch.owner], default=None)

    async def _run(self, job: BatchJob) -> None:
        """Run a batch to its end. If the storage fails, it is tried again, from where it was."""
        try:
            await job.run()
        except StorageError as error:
            logger.error("the batch %s waits: %s", job.batch.id, error.message)
            await asyncio.sleep(_TIDY_SECONDS)
        except Exception:  # a bug; the other batches are to run all the same
            logger.exception("the batch %s waits until the next start", job.batch.id)
            return
        finally:
            job.close()
        self._jobs.pop(job.batch.id)
        if job.batch.is_finished:
            self._unfinished.pop(job.batch.id)
            self.metrics.ended[job.batch.status] += 1
        self._changed.set()

    async def _recover(self) -> None:
        """Find the batches that an earlier server has not finished."""
        while True:
            try:
                found = await self.storage.unfinished_batches()
                break
            except StorageError as error:
                logger.error("no batches run: %s", error.message)
                await asyncio.sleep(_TIDY_SECONDS)
        self._unfinished = {batch.id: batch for batch in found} | self._unfinished

    async def _tidy(self) -> None:
        while True:
            try:
                await self.storage.delete_expired()
            except StorageError as error:
                logger.error("expired files cannot be deleted: %s", error.message)
            await asyncio.sleep(_TIDY_SECONDS)
