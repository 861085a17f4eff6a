"""The two files of a batch's answers: what succeeded, and what failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from glmserve.batches.id_set import IdSet
from glmserve.batches.record_file import RecordError, RecordFile


class _Waiting(NamedTuple):
    custom_id: str
    line: bytes
    has_failed: bool
    written: asyncio.Future[None]


class AnswerFiles:
    """Writes each answer once. All that arrive during one write are written together, by a thread.

    Args:
        output: file of the answers.
        errors: file of the requests that failed.

    Raises:
        RecordError: there is such a file already, and it is none of a batch; or both files have an
            answer to the same request.
        OSError: a file cannot be opened or read.
    """

    def __init__(self, output: Path, errors: Path) -> None:
        self.done = IdSet()
        """Custom ids of the requests whose answers are written."""
        self.num_completed = 0
        self.num_failed = 0
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._output = RecordFile(output)
        try:
            self._errors = RecordFile(errors)
        except BaseException:
            self._output.close()
            raise
        try:
            self.num_completed = self._read(self._output)
            self.num_failed = self._read(self._errors)
        except BaseException:
            self.close()
            raise

    @property
    def num_bytes(self) -> int:
        """Size of both files."""
        return self._output.size + self._errors.size

    async def add(self, custom_id: str, line: bytes, *, has_failed: bool) -> None:
        """Write the answer to a request. When this returns, it outlives the machine.

        Once called, the answer is written even if the caller is cancelled; see `settle`.

        Args:
            line: ends with a newline.

        Raises:
            OSError: it is not written.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(custom_id, line, has_failed, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await written

    async def settle(self) -> None:
        """Wait until nothing is being written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    def close(self) -> None:
        """Close the files. Nothing may be written meanwhile."""
        self._output.close()
        self._errors.close()

    def _read(self, file: RecordFile) -> int:
        count = 0
        for custom_id in file.ids():
            if not self.done.add(custom_id):
                raise RecordError(f"{file.path}: {custom_id[:100]!r} is answered twice")
            count += 1
        return count

    async def _write(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                for file, has_failed in ((self._output, False), (self._errors, True)):
                    part = [item for item in taken if item.has_failed is has_failed]
                    if part:
                        await self._append(file, part)
        finally:
            self._writing = None

    async def _append(self, file: RecordFile, items: Sequence[_Waiting]) -> None:
        try:
            await asyncio.to_thread(file.append, [item.line for item in items])
        except OSError as error:
            for item in items:
                if not item.written.done():
                    item.written.set_exception(error)
            return
        for item in items:
            self.done.add(item.custom_id)
            if item.has_failed:
                self.num_failed += 1
            else:
                self.num_completed += 1
            if not item.written.done():
                item.written.set_result(None)
