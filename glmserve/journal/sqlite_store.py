"""The journal's database: SQLite in WAL mode, where each frame of the log has a checksum.

An incomplete commit at the end of the log is ignored. A commit is handed to the operating system,
so a killed process loses none. It does not wait for the disk (synchronous=NORMAL), so the last
commits may be lost if the machine fails.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from glmserve.errors import OptionError, StartupError
from glmserve.journal.batch import Batch, Written
from glmserve.journal.entry import (
    Delta,
    Entry,
    Phase,
    Record,
    decode_delta,
    decode_entry,
    encode_delta,
    encode_entry,
)
from glmserve.journal.errors import StoreError
from glmserve.journal.group_commit import GroupCommit
from glmserve.journal.local_entries import LocalEntries
from glmserve.process.sqlite import transaction

FORMAT = 1
"""Version of the tables, of their contents, and of the events that are made of them."""
_APPLICATION_ID = 0x676C6D6A
_PAGE_SIZE = 4096
_MAX_ROWS = 256
"""Maximum number of deltas in one statement. One statement releases the interpreter once, not once
for each row."""
_MAX_ATTEMPTS = 3
"""Maximum number of attempts to finish a request after a restart: it may be what kills servers."""
_PAGES_FREED_PER_CALL = 4096

_TABLES = """
CREATE TABLE identity (fingerprint TEXT NOT NULL, secret BLOB NOT NULL);
CREATE TABLE request (
    id INTEGER PRIMARY KEY,
    entry BLOB NOT NULL,
    body BLOB NOT NULL,
    phase INTEGER NOT NULL,
    expires REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
);
CREATE TABLE delta (seq INTEGER PRIMARY KEY, request INTEGER NOT NULL, data BLOB NOT NULL);
"""
# Deltas of all requests are stored in order of arrival, so a commit touches one or two pages for
# any number of streams. The deltas of a request have first < seq <= last.
_UNKNOWN_END = 2**62


class SqliteStore:
    """One journal, locked by one process. Used by one thread at a time.

    Args:
        folder: folder of the database; created if it does not exist.
        fingerprint: fingerprint of the model.
        max_bytes: maximum size of the database. Its log takes some megabytes more.

    Raises:
        OptionError: the folder cannot be used, is locked, or belongs to another model or format.
        StartupError: the database is damaged or cannot be opened; the message says what to do.
    """

    def __init__(self, folder: Path, fingerprint: str, max_bytes: int) -> None:
        self.path = folder / "journal.sqlite"
        self.place = str(folder)
        self._option = f"--journal {folder}"
        with self._startup_errors():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # it holds prompts
            self._db = sqlite3.connect(
                self.path,
                isolation_level=None,
                timeout=1.0,
                check_same_thread=False,
                cached_statements=2 * _MAX_ROWS,
            )
            try:
                self._open(fingerprint, max_bytes)
            except BaseException:
                self._db.close()
                raise

    def _open(self, fingerprint: str, max_bytes: int) -> None:
        run = self._db.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA auto_vacuum = INCREMENTAL")  # before there is a table
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN IMMEDIATE")  # takes the exclusive lock, and keeps it until close
        self._check_format()
        run("COMMIT")
        run(f"PRAGMA max_page_count = {max(64, max_bytes // _PAGE_SIZE)}")
        ((verdict,),) = run("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        ((known, self.secret),) = run("SELECT fingerprint, secret FROM identity").fetchall() or [
            self._create_identity(fingerprint)
        ]
        if known != fingerprint:
            raise OptionError(
                f"{self._option} belongs to another model, tokenizer or number format: its texts "
                "cannot be gone on with; name another folder, or delete this one"
            )
        ((self._seq,),) = run(
            "SELECT max(coalesce((SELECT max(seq) FROM delta), 0),"
            " coalesce((SELECT max(first) FROM request), 0))"
        )

    def _check_format(self) -> None:
        ((application,),) = self._db.execute("PRAGMA application_id")
        ((version,),) = self._db.execute("PRAGMA user_version")
        ((tables,),) = self._db.execute("SELECT count(*) FROM sqlite_master")
        if tables == 0:
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
        elif application != _APPLICATION_ID:
            raise OptionError(f"{self._option}: {self.path.name} there is no journal of glmserve's")
        elif version != FORMAT:
            raise OptionError(
                f"{self._option} was written by {'a newer' if version > FORMAT else 'an older'} "
                f"glmserve (format {version}, this one's is {FORMAT}); let that one finish it, "
                "name another folder, or delete this one"
            )

    def _create_identity(self, fingerprint: str) -> tuple[str, bytes]:
        secret = secrets.token_bytes(32)
        self._db.execute("INSERT INTO identity VALUES (?, ?)", (fingerprint, secret))
        return fingerprint, secret

    @contextmanager
    def _startup_errors(self) -> Iterator[None]:
        """Turn errors of the system and of SQLite into StartupErrors that say what to do."""
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OptionError(f"{self._option}: {reason}") from None
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            if code == sqlite3.SQLITE_BUSY:
                message = f"{self._option} is in use by another server; each needs one of its own"
                raise OptionError(message) from None
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise StartupError(
                    f"{self._option} is damaged ({error}); move {self.path}* away and start "
                    "again: what was unfinished in it is lost"
                ) from None
            raise StartupError(f"{self._option} cannot be used: {error}") from None

    def recover(self, now: float, keep: float) -> list[Entry]:
        """Read the entries of earlier servers. Call once, before anything is written.

        Deletes expired entries, and those with too many attempts.

        Args:
            now: Unix seconds.
            keep: seconds for which answers that were being generated can be fetched.

        Returns:
            The remaining entries, oldest first.

        Raises:
            StartupError: the database cannot be read or written.
        """
        with self._startup_errors(), transaction(self._db):
            run = self._db.execute
            run("UPDATE request SET expires = ? WHERE expires IS NULL", (now + keep,))
            gone = run(
                "SELECT id FROM request WHERE expires < ? OR (phase = ? AND attempts >= ?)",
                (now, Phase.RUNNING, _MAX_ATTEMPTS),
            ).fetchall()
            for (entry_id,) in gone:
                self._delete(entry_id)
            rows = run("SELECT entry, phase, expires FROM request ORDER BY id").fetchall()
        entries = []
        for data, phase, expires in rows:
            entry = decode_entry(data)
            entry.phase, entry.expires = Phase(phase), expires
            entries.append(entry)
        return entries

    def entries(self, commits: GroupCommit, keep: float) -> LocalEntries:
        return LocalEntries(self, commits, keep)

    def write(self, batch: Batch) -> Written:
        """Commit a batch. If the database is full, delete the older half of the complete entries.

        Raises:
            StoreError: nothing of the batch was written.
        """
        with _store_errors():
            try:
                self._commit(batch)
            except sqlite3.Error as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL or not self._make_room():
                    raise
                self._commit(batch)
        return Written()

    def load_body(self, entry_id: int) -> bytes | None:
        """The body of an entry's request, or None if there is no such entry.

        Raises:
            StoreError: the database cannot be read.
        """
        with _store_errors():
            row = self._db.execute("SELECT body FROM request WHERE id = ?", (entry_id,)).fetchone()
        return None if row is None else row[0]

    def load(self, entry_id: int) -> Record | None:
        """The record of an entry's answer, or None if there is no such entry.

        Raises:
            StoreError: the database cannot be read.
        """
        with _store_errors():
            row = self._db.execute(
                "SELECT entry, first, last FROM request WHERE id = ?", (entry_id,)
            ).fetchone()
            if row is None:
                return None
            entry, first, last = row
            deltas = self._db.execute(
                "SELECT data FROM delta WHERE seq > ? AND seq <= ? AND request = ? ORDER BY seq",
                (first, last, entry_id),
            ).fetchall()
        return Record(decode_entry(entry).notes, [decode_delta(data) for (data,) in deltas])

    def free_pages(self) -> None:
        """Return the disk space of deleted entries to the system.

        Raises:
            StoreError: that failed.
        """
        # incremental_vacuum frees one page for each step of the statement; `execute` does one step.
        with _store_errors():
            self._db.executescript(f"PRAGMA incremental_vacuum({_PAGES_FREED_PER_CALL})")

    @property
    def num_bytes(self) -> int:
        """Size of the database and its log on disk, bytes."""
        total = 0
        for path in (self.path, self.path.with_name(self.path.name + "-wal")):
            try:
                total += path.stat().st_size
            except OSError:
                continue
        return total

    def close(self) -> None:
        """Close the database and release its lock."""
        self._db.close()

    def _commit(self, batch: Batch) -> None:
        if _is_plain(batch):
            self._insert_deltas(batch.deltas)
            return
        with transaction(self._db):
            for entry, body in batch.inserts:
                self._db.execute(
                    "INSERT INTO request (id, entry, body, phase, expires, first, last)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(entry.id, encode_entry(entry), body, entry.phase, entry.expires),
                        *(self._seq, _UNKNOWN_END),
                    ),
                )
            for start in range(0, len(batch.deltas), _MAX_ROWS):
                self._insert_deltas(batch.deltas[start : start + _MAX_ROWS])
            for entry_id, phase, expires in batch.phases:
                last = _UNKNOWN_END if phase is Phase.RUNNING else self._seq
                self._db.execute(
                    "UPDATE request SET phase = ?, expires = ?, last = ? WHERE id = ?",
                    (phase, expires, last, entry_id),
                )
            for entry_id, change in batch.attempts:
                self._db.execute(
                    "UPDATE request SET attempts = attempts + ? WHERE id = ?", (change, entry_id)
                )
            for entry_id in batch.deletes:
                self._delete(entry_id)

    def _insert_deltas(self, deltas: Sequence[tuple[int, Delta]]) -> None:
        if not deltas:
            return
        values: list[int | bytes] = []
        for seq, (entry_id, delta) in enumerate(deltas, self._seq + 1):
            values += (seq, entry_id, encode_delta(delta))
        placeholders = ",".join(["(?,?,?)"] * len(deltas))
        self._db.execute(f"INSERT INTO delta VALUES {placeholders}", values)
        self._seq += len(deltas)

    def _delete(self, entry_id: int) -> None:
        self._db.execute(
            "DELETE FROM delta WHERE request = ?1"
            " AND seq > (SELECT first FROM request WHERE id = ?1)"
            " AND seq <= (SELECT last FROM request WHERE id = ?1)",
            (entry_id,),
        )
        self._db.execute("DELETE FROM request WHERE id = ?", (entry_id,))

    def _make_room(self) -> bool:
        """Delete the older half of the complete entries. Returns whether there were any."""
        complete = self._db.execute(
            "SELECT id FROM request WHERE phase = ? ORDER BY expires", (Phase.COMPLETE,)
        ).fetchall()
        with transaction(self._db):
            for (entry_id,) in complete[: (len(complete) + 1) // 2]:
                self._delete(entry_id)
        return bool(complete)


def _is_plain(batch: Batch) -> bool:
    """Whether one statement can write it."""
    others = batch.inserts or batch.phases or batch.attempts or batch.deletes
    return not others and len(batch.deltas) <= _MAX_ROWS


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(str(error)) from error
