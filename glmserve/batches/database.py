"""The SQLite database that lists files and batches. A commit waits for the disk."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from glmserve.batches.records import UNFINISHED, BatchRecord, FileRecord
from glmserve.errors import OptionError, StartupError
from glmserve.process.sqlite import transaction

FORMAT = 1
"""Version of the tables and of their contents."""
_APPLICATION_ID = 0x676C6D62
_TABLES = (
    "CREATE TABLE identity (secret BLOB NOT NULL)",
    "CREATE TABLE file (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " owner TEXT NOT NULL, purpose TEXT NOT NULL, num_bytes INTEGER NOT NULL, expires INTEGER,"
    " record BLOB NOT NULL)",
    "CREATE INDEX file_owner ON file (owner, seq)",
    "CREATE TABLE batch (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " owner TEXT NOT NULL, status TEXT NOT NULL, input_file TEXT NOT NULL, record BLOB NOT NULL)",
    "CREATE INDEX batch_owner ON batch (owner, seq)",
    "CREATE INDEX batch_status ON batch (status)",
)
_UNFINISHED = "(status IN (" + ", ".join(f"'{status}'" for status in UNFINISHED) + "))"

_encode = msgspec.msgpack.Encoder().encode
_decode_file = msgspec.msgpack.Decoder(FileRecord).decode
_decode_batch = msgspec.msgpack.Decoder(BatchRecord).decode


class Database:
    """The lists of one folder, locked by one process. Used by one thread at a time.

    Args:
        folder: an existing folder.

    Raises:
        OptionError: the folder is used by another server, or not by this version of glmserve.
        StartupError: the database is damaged or cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "batches.sqlite"
        self._option = f"--batch-dir {folder}"
        with self._startup_errors():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(
                self.path, isolation_level=None, timeout=1.0, check_same_thread=False
            )
            try:
                self.secret = self._open()
            except BaseException:
                self._db.close()
                raise

    def _open(self) -> bytes:
        run = self._db.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        with transaction(self._db):  # takes the exclusive lock, and keeps it until close
            ((application,),) = run("PRAGMA application_id")
            ((version,),) = run("PRAGMA user_version")
            ((tables,),) = run("SELECT count(*) FROM sqlite_master")
            if tables == 0:
                self._create()
            elif application != _APPLICATION_ID:
                raise OptionError(f"{self._option}: {self.path.name} there is not glmserve's")
            elif version != FORMAT:
                raise OptionError(
                    f"{self._option} was written by another version of glmserve (format {version}, "
                    f"this one's is {FORMAT}); name another folder"
                )
        ((verdict,),) = run("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        ((secret,),) = run("SELECT secret FROM identity")
        return bytes(secret)

    def _create(self) -> None:
        for statement in _TABLES:
            self._db.execute(statement)
        self._db.execute("INSERT INTO identity VALUES (?)", (secrets.token_bytes(32),))
        self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")

    @contextmanager
    def _startup_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OptionError(f"{self._option}: {(error.strerror or str(error)).lower()}") from None
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            if code == sqlite3.SQLITE_BUSY:
                raise OptionError(
                    f"{self._option} is in use by another server; each needs one of its own"
                ) from None
            raise StartupError(
                f"{self._option} cannot be used ({error}); if it is damaged, move {self.path}* "
                "away and start again: what is in it is lost then"
            ) from None

    def add_file(self, file: FileRecord) -> None:
        """Add a file, which is complete on the disk."""
        self._db.execute(
            "INSERT INTO file (id, owner, purpose, num_bytes, expires, record)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (file.id, file.owner, file.purpose, file.num_bytes, file.expires, _encode(file)),
        )

    def file(self, owner: str, file_id: str) -> FileRecord | None:
        """An owner's file."""
        return next(self._files("owner = ? AND id = ?", (owner, file_id)), None)

    def files(
        self, owner: str, purpose: str | None, after: str | None, limit: int, *, ascending: bool
    ) -> list[FileRecord]:
        """Files of an owner, by age.

        Args:
            purpose: None: any.
            after: id of the file that comes before these; None: from the beginning.
        """
        order, beyond = ("ASC", ">") if ascending else ("DESC", "<")
        condition, values = "owner = ?", [owner]
        if purpose is not None:
            condition, values = f"{condition} AND purpose = ?", [*values, purpose]
        if after is not None:
            condition += f" AND seq {beyond} (SELECT seq FROM file WHERE id = ?)"
            values = [*values, after]
        return list(self._files(f"{condition} ORDER BY seq {order} LIMIT {limit:d}", values))

    def expired_files(self, now: float) -> list[FileRecord]:
        """Expired files, except inputs of unfinished batches."""
        inputs = f"SELECT input_file FROM batch WHERE {_UNFINISHED}"
        return list(self._files(f"expires <= ? AND id NOT IN ({inputs})", (now,)))

    def delete_file(self, file_id: str) -> bool:
        """Delete a file from the list. Returns whether it was there."""
        return self._db.execute("DELETE FROM file WHERE id = ?", (file_id,)).rowcount > 0

    def num_bytes(self, owner: str | None = None) -> int:
        """Bytes of an owner's files, or of all files."""
        condition, values = ("owner = ?", (owner,)) if owner is not None else ("TRUE", ())
        ((total,),) = self._db.execute(
            f"SELECT coalesce(sum(num_bytes), 0) FROM file WHERE {condition}", values
        )
        return int(total)

    def num_files(self, owner: str) -> int:
        """Number of an owner's files."""
        ((count,),) = self._db.execute("SELECT count(*) FROM file WHERE owner = ?", (owner,))
        return int(count)

    def has_file(self, file_id: str) -> bool:
        """Whether there is such a file, of any owner."""
        return next(self._files("id = ?", (file_id,)), None) is not None

    def add_batch(self, batch: BatchRecord) -> None:
        """Add a batch."""
        self._db.execute(
            "INSERT INTO batch (id, owner, status, input_file, record) VALUES (?, ?, ?, ?, ?)",
            (batch.id, batch.owner, batch.status, batch.input_file, _encode(batch)),
        )

    def forget_old_batches(self, owner: str, most: int) -> None:
        """Delete batches of an owner that have ended, except the newest `most` batches."""
        self._db.execute(
            f"DELETE FROM batch WHERE owner = ?1 AND NOT {_UNFINISHED} AND seq <="
            " (SELECT seq FROM batch WHERE owner = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
            (owner, most),
        )

    def update_batch(self, batch: BatchRecord, new_files: Sequence[FileRecord] = ()) -> None:
        """Write a batch anew, and add the files that its end brings, at once."""
        with transaction(self._db):
            for file in new_files:
                self.add_file(file)
            self._db.execute(
                "UPDATE batch SET status = ?, record = ? WHERE id = ?",
                (batch.status, _encode(batch), batch.id),
            )

    def batch(self, owner: str, batch_id: str) -> BatchRecord | None:
        """An owner's batch."""
        return next(self._batches("owner = ? AND id = ?", (owner, batch_id)), None)

    def batches(self, owner: str, after: str | None, limit: int) -> list[BatchRecord]:
        """Batches of an owner, the newest first. `after` as in `files`."""
        condition, values = "owner = ?", [owner]
        if after is not None:
            condition += " AND seq < (SELECT seq FROM batch WHERE id = ?)"
            values = [*values, after]
        return list(self._batches(f"{condition} ORDER BY seq DESC LIMIT {limit:d}", values))

    def unfinished_batches(self, owner: str | None = None) -> list[BatchRecord]:
        """Unfinished batches, the oldest first; of one owner, or all."""
        condition, values = (" AND owner = ?", (owner,)) if owner is not None else ("", ())
        return list(self._batches(f"{_UNFINISHED}{condition} ORDER BY seq", values))

    def users_of(self, file_id: str) -> list[BatchRecord]:
        """Unfinished batches that read this file."""
        return list(self._batches(f"{_UNFINISHED} AND input_file = ?", (file_id,)))

    def close(self) -> None:
        """Close the database and release its lock."""
        self._db.close()

    def _files(self, condition: str, values: Sequence[object]) -> Iterator[FileRecord]:
        for (data,) in self._db.execute(f"SELECT record FROM file WHERE {condition}", values):
            yield _decode_file(data)

    def _batches(self, condition: str, values: Sequence[object]) -> Iterator[BatchRecord]:
        for (data,) in self._db.execute(f"SELECT record FROM batch WHERE {condition}", values):
            yield _decode_batch(data)
