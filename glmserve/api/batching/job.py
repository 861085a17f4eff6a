"""One batch from its input to its output files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from glmserve.api.answering.caller import Caller
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.batching.feeder import Feeder
from glmserve.api.batching.metrics import BatchMetrics
from glmserve.batches.answers import AnswerFiles
from glmserve.batches.errors import StorageError
from glmserve.batches.lines import check_lines
from glmserve.batches.output_lines import failed_line
from glmserve.batches.record_file import RecordError
from glmserve.batches.records import BatchRecord, FileRecord, LineProblem
from glmserve.batches.slabs import Slabs
from glmserve.batches.storage import BatchStorage

_MOST_PROBLEMS = 100
"""Errors of an input file that are reported."""

_UNANSWERED = {
    "expired": (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    "cancelled": ("batch_cancelled", "This request was not executed: the batch was cancelled."),
}
"""OpenAI's codes, for lines of a batch that ends early."""


class JobResources(NamedTuple):
    """What all batches of a server share."""

    server: ServerContext
    storage: BatchStorage
    endpoints: Mapping[str, Endpoint[Any]]
    metrics: BatchMetrics
    places: asyncio.Semaphore
    """For lines that are being answered."""


class BatchJob:
    """Runs a batch from whatever status it has.

    Args:
        caller: the sender of the lines' requests.
    """

    def __init__(self, resources: JobResources, batch: BatchRecord, caller: Caller) -> None:
        self.batch = batch
        self.answers: AnswerFiles | None = None
        """None before the input is checked."""
        self._resources = resources
        self._storage = resources.storage
        self._caller = caller
        self._cancelled = asyncio.Event()
        if batch.status == "cancelling":
            self._cancelled.set()

    def cancel(self) -> None:
        """Stop answering lines; `run` then ends soon."""
        self._cancelled.set()

    def close(self) -> None:
        """Close the files."""
        if self.answers is not None:
            self.answers.close()

    async def run(self) -> None:
        """Bring the batch to its end.

        Raises:
            StorageError: files cannot be read or written.
        """
        if self.batch.status in ("validating", "cancelling") and not self.batch.output_file:
            await self._validate()
            if self.batch.is_finished:
                return
        try:
            self.answers = await self._open_answers()
            end = await self._answer_all(self.answers)
            if end != "completed":
                await self._give_up(self.answers, end)
        except (OSError, RecordError) as error:
            raise StorageError(str(error)) from None
        finally:
            if self.answers is not None:
                await self.answers.settle()
        await self._finish(self.answers, end)

    async def _validate(self) -> None:
        """Check the input, and name the files that the answers go to."""
        batch, config = self.batch, self._storage.config
        path = self._storage.path(batch.input_file)
        largest = self._resources.server.config.max_body_size

        def check() -> tuple[int, list[LineProblem]]:
            with path.open("rb") as file:
                count, errors = check_lines(
                    file, largest, config.max_lines, batch.endpoint, _MOST_PROBLEMS
                )
            return count, [LineProblem(e.code, e.message, e.param, e.line) for e in errors]

        try:
            batch.total, batch.problems = await asyncio.to_thread(check)
        except FileNotFoundError:
            problem = LineProblem("input_missing", "this server has lost the input file")
            batch.total, batch.problems = 0, [problem]
        except OSError as error:
            raise StorageError(f"the input cannot be read: {error.strerror}") from None
        if batch.problems:
            batch.enter("failed", self._storage.now())
        else:
            batch.output_file = self._storage.new_file_id()
            batch.error_file = self._storage.new_file_id()
            if batch.status == "validating":  # not cancelled meanwhile
                batch.enter("in_progress", self._storage.now())
        await self._storage.update_batch(batch)

    async def _open_answers(self) -> AnswerFiles:
        """Read on a thread what is answered. If this is cancelled meanwhile, nothing stays open."""
        paths = map(self._storage.path, (self.batch.output_file, self.batch.error_file))
        opening = asyncio.create_task(asyncio.to_thread(AnswerFiles, *paths))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])
            if opening.exception() is None:
                opening.result().close()
            raise

    async def _answer_all(self, answers: AnswerFiles) -> str:
        """Answer the lines until all are, or time is up, or the batch is cancelled.

        Returns:
            The status that the batch ends with.
        """
        resources = self._resources
        feeder = Feeder(
            resources.server,
            resources.endpoints,
            self._caller,
            resources.places,
            answers,
            resources.metrics,
        )
        path, largest = self._storage.path(self.batch.input_file), self._max_body_size
        feeding = asyncio.create_task(feeder.answer_all(path, largest, self.batch.endpoint))
        stopping = asyncio.create_task(self._cancelled.wait())
        try:
            left = max(0.0, self.batch.expires - self._storage.now())
            await asyncio.wait(
                (feeding, stopping), timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            feeding.cancel()
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((feeding, stopping))
        if not feeding.cancelled():
            feeding.result()
            return "completed"
        return "cancelled" if self._cancelled.is_set() else "expired"

    async def _give_up(self, answers: AnswerFiles, end: str) -> None:
        """Say of each line that is not answered why it is not."""
        code, message = _UNANSWERED[end]
        await answers.settle()
        path, largest = self._storage.path(self.batch.input_file), self._max_body_size
        with Slabs(path, largest, self.batch.endpoint, answers.done) as slabs:
            async for slab in slabs:
                lines = [
                    (line.custom_id, failed_line(line.number, line.custom_id, code, message))
                    for line in slab
                ]
                await asyncio.gather(*(answers.add(*line, has_failed=True) for line in lines))
                self._resources.metrics.lines[end] += len(slab)

    async def _finish(self, answers: AnswerFiles, end: Any) -> None:
        """Make files of the answers, and give the batch its last status."""
        batch, now = self.batch, self._storage.now()
        if batch.status == "in_progress":
            batch.enter("finalizing", now)
            await self._storage.update_batch(batch)
        batch.completed, batch.failed = answers.num_completed, answers.num_failed
        new_files = [
            self._new_file(batch.output_file, "output"),
            self._new_file(batch.error_file, "error"),
        ]
        kept = [file for file in new_files if file.num_bytes]
        for file in new_files:
            if not file.num_bytes:
                self._storage.path(file.id).unlink(missing_ok=True)
        batch.output_file = batch.output_file if new_files[0].num_bytes else ""
        batch.error_file = batch.error_file if new_files[1].num_bytes else ""
        batch.enter(end, now)
        await self._storage.update_batch(batch, kept)

    def _new_file(self, file_id: str, kind: str) -> FileRecord:
        now = int(self._storage.now())
        keep = self.batch.output_seconds or self._storage.config.keep
        return FileRecord(
            file_id,
            self.batch.owner,
            f"{self.batch.id}_{kind}.jsonl",
            "batch_output",
            self._storage.path(file_id).stat().st_size,
            now,
            now + keep if keep else None,
        )

    @property
    def _max_body_size(self) -> int:
        return self._resources.server.config.max_body_size
