"""The folder of `--batch-dir`: files of users, batches, and their outputs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from glmserve.batches.database import Database
from glmserve.batches.errors import (
    BatchNotFoundError,
    FileInUseError,
    FileTooLargeError,
    StorageError,
    StoredFileNotFoundError,
    TooManyBatchesError,
)
from glmserve.batches.records import BatchRecord, FileRecord
from glmserve.batches.upload import Upload, storage_full
from glmserve.config import BatchConfig
from glmserve.errors import OptionError

MOST_FILES = 10_000
"""Files of one owner."""
MOST_BATCHES = 10_000
"""Batches of one owner that are remembered: older ones that have ended are forgotten."""

T = TypeVar("T")
P = ParamSpec("P")


class BatchStorage:
    """Files and batches of all owners. The database is used by one thread of its own.

    A file's path is made of its id alone, and ids are made here. Neither what a client calls a file
    nor an id that a client sends becomes a path.

    Args:
        clock: Unix seconds; for tests.

    Raises:
        OptionError: the folder cannot be used, or is used by another server.
        StartupError: the folder is damaged.
    """

    def __init__(self, config: BatchConfig, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.now = clock
        self._files = config.folder / "files"
        try:
            self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OptionError(f"--batch-dir {config.folder}: {reason}") from None
        self._database = Database(config.folder)
        self._thread = ThreadPoolExecutor(1, "batches")
        self._arriving: dict[str, set[Upload]] = {}  # by owner
        self._delete_leftovers()
        self.num_bytes = self._database.num_bytes()
        """Of all files; without outputs of batches that have not ended."""

    @property
    def secret(self) -> bytes:
        """Random bytes that stay the same as long as the folder exists."""
        return self._database.secret

    def path(self, file_id: str) -> Path:
        """Where a file is. The id must be one that this object has given."""
        return self._files / file_id

    def new_file_id(self) -> str:
        """An id for a file that a batch will write."""
        return f"file-{secrets.token_hex(12)}"

    async def begin_upload(self, owner: str) -> tuple[str, Upload]:
        """Begin to store a file; its id, and what writes it.

        Raises:
            StorageError: the disk does not take it.
        """
        file_id = self.new_file_id()
        stored = await self._run(Database.num_bytes, owner)
        arriving = self._arriving.setdefault(owner, set())

        def room() -> int:
            others = sum(other.num_bytes for other in list(arriving) if other is not upload)
            return self.config.max_storage - stored - others

        try:
            upload = Upload(self.path(file_id), self.config.max_file_size, room)
        except OSError as error:
            raise _storage_error(error) from None
        arriving.add(upload)
        return file_id, upload

    async def finish_upload(self, upload: Upload, file: FileRecord) -> None:
        """Keep a file that has arrived.

        Raises:
            FileTooLargeError: its owner has too many files, or others have arrived meanwhile.
            StorageError: the disk does not take it.
        """
        try:
            await asyncio.to_thread(upload.finish)
            await asyncio.to_thread(_sync_folder, self._files)
        except OSError as error:
            raise _storage_error(error) from None

        def add(database: Database) -> None:
            if database.num_files(file.owner) >= MOST_FILES:
                raise FileTooLargeError(
                    f"this API key may store {MOST_FILES} files, and does; delete some", "file"
                )
            if database.num_bytes(file.owner) + file.num_bytes > self.config.max_storage:
                raise storage_full()
            database.add_file(file)

        await self._run(add)
        self.num_bytes += file.num_bytes
        self._forget(upload, file.owner)

    async def discard_upload(self, upload: Upload, owner: str) -> None:
        """Forget a file that has not arrived."""
        self._forget(upload, owner)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(upload.discard)

    async def find_file(self, owner: str, file_id: str, param: str = "file_id") -> FileRecord:
        """An owner's file.

        Raises:
            StoredFileNotFoundError: there is none, or no longer.
        """
        file = await self._run(Database.file, owner, file_id)
        if file is None or (file.expires is not None and file.expires <= self.now()):
            raise StoredFileNotFoundError(file_id, param)
        return file

    async def list_files(
        self, owner: str, purpose: str | None, after: str | None, limit: int, *, ascending: bool
    ) -> list[FileRecord]:
        """See Database.files. `after` must be a file of the owner's."""
        if after is not None:
            await self.find_file(owner, after, "after")
        await self.delete_expired()

        def read(database: Database) -> list[FileRecord]:
            return database.files(owner, purpose, after, limit, ascending=ascending)

        return await self._run(read)

    async def delete_file(self, file: FileRecord) -> None:
        """Delete a file.

        Raises:
            FileInUseError: an unfinished batch reads it.
            StoredFileNotFoundError: it is deleted already.
        """

        def delete(database: Database) -> None:
            if users := database.users_of(file.id):
                raise FileInUseError(
                    f"the batch {users[0].id} reads this file; cancel it, or wait for its end",
                    "file_id",
                )
            if not database.delete_file(file.id):
                raise StoredFileNotFoundError(file.id)
            self.path(file.id).unlink(missing_ok=True)

        await self._run(delete)
        self.num_bytes -= file.num_bytes

    async def delete_expired(self) -> None:
        """Delete all expired files."""
        for file in await self._run(Database.expired_files, self.now()):
            with contextlib.suppress(FileInUseError, StoredFileNotFoundError):
                await self.delete_file(file)

    async def add_batch(self, batch: BatchRecord) -> None:
        """Accept a batch.

        Raises:
            TooManyBatchesError: its owner has too many.
            StoredFileNotFoundError: its input has been deleted meanwhile.
        """

        def add(database: Database) -> None:
            limit = self.config.max_batches
            if limit and len(database.unfinished_batches(batch.owner)) >= limit:
                raise TooManyBatchesError(
                    f"this API key may have {limit} unfinished batches, and has them; wait for one "
                    "to end"
                )
            if database.file(batch.owner, batch.input_file) is None:
                raise StoredFileNotFoundError(batch.input_file, "input_file_id")
            database.add_batch(batch)
            database.forget_old_batches(batch.owner, MOST_BATCHES)

        await self._run(add)

    async def find_batch(self, owner: str, batch_id: str) -> BatchRecord:
        """An owner's batch.

        Raises:
            BatchNotFoundError: there is none.
        """
        batch = await self._run(Database.batch, owner, batch_id)
        if batch is None:
            raise BatchNotFoundError(batch_id)
        return batch

    async def list_batches(self, owner: str, after: str | None, limit: int) -> list[BatchRecord]:
        """See Database.batches. `after` must be a batch of the owner's."""
        if after is not None:
            await self.find_batch(owner, after)
        return await self._run(Database.batches, owner, after, limit)

    async def unfinished_batches(self) -> list[BatchRecord]:
        """All of them, the oldest first."""
        return await self._run(Database.unfinished_batches)

    async def update_batch(self, batch: BatchRecord, new_files: Sequence[FileRecord] = ()) -> None:
        """See Database.update_batch."""
        await self._run(Database.update_batch, batch, new_files)
        self.num_bytes += sum(file.num_bytes for file in new_files)

    async def close(self) -> None:
        """Close the database, and let another server use the folder."""
        await self._run(Database.close)
        self._thread.shutdown()

    async def _run(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Use the database on its thread.

        Raises:
            StorageError: it cannot be read or written.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._thread, lambda: work(self._database, *args, **kwargs)
            )
        except (sqlite3.Error, OSError) as error:
            raise _storage_error(error) from None

    def _forget(self, upload: Upload, owner: str) -> None:
        arriving = self._arriving.get(owner, set())
        arriving.discard(upload)
        if not arriving:
            self._arriving.pop(owner, None)

    def _delete_leftovers(self) -> None:
        """Delete files that an earlier server did not complete."""
        known = {
            file_id
            for batch in self._database.unfinished_batches()
            for file_id in (batch.output_file, batch.error_file)
        }
        for path in self._files.iterdir():
            if path.name not in known and not self._database.has_file(path.name):
                path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's list of files."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storage_error(error: OSError | sqlite3.Error) -> StorageError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return StorageError(f"this server cannot store it now: {(reason or str(error)).lower()}")
