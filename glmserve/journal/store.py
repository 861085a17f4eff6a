"""The journal's database: SQLite in WAL mode, whose frames are checksummed.

What is torn off the end of its log was never committed, or is as if it had not been. A commit is in
the operating system's hands, so a killed process loses none; it is not waited for the disk
(synchronous=NORMAL), so when the machine itself goes down, the last commits may be lost.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from glmserve.errors import OptionError, StartupError
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

FORMAT = 1
"""Of the tables, of what is in them, and of the events that are made of it: all of one number."""
_APPLICATION_ID = 0x676C6D6A
_PAGE_SIZE = 4096
_ROWS = 256
"""Deltas in one statement. A statement gives up the interpreter once, not once for each row."""
_MOST_ATTEMPTS = 3
"""To finish a request whose server has died over it: it may be what kills them."""
_FREED_AT_ONCE = 4096  # pages

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
# Deltas of all requests lie in the order in which they came: a commit touches one or two pages,
# however many streams there are. A request knows between which numbers its own lie.
_UNKNOWN_END = 2**62


@dataclass
class Batch:
    """What is written in one transaction, in this order."""

    inserts: list[tuple[Entry, bytes]] = field(default_factory=list)
    """With the body of the request."""
    deltas: list[tuple[int, Delta]] = field(default_factory=list)
    """With the number of their entry."""
    phases: list[tuple[int, Phase, float | None]] = field(default_factory=list)
    """Entry, where it stands now, and when it expires."""
    attempts: list[int] = field(default_factory=list)
    """Entries that are about to be finished by another server than their own."""
    deletes: list[int] = field(default_factory=list)

    @property
    def is_plain(self) -> bool:
        """Whether one statement is enough."""
        others = self.inserts or self.phases or self.attempts or self.deletes
        return not others and len(self.deltas) <= _ROWS


class Store:
    """One journal, held by one process. Used by one thread at a time.

    Args:
        folder: where it is; made if it is not there.
        fingerprint: of the model.
        max_bytes: what the database may take; its log takes some megabytes more.

    Raises:
        StartupError: it cannot be used; the message says why, and what to do.
    """

    def __init__(self, folder: Path, fingerprint: str, max_bytes: int) -> None:
        self.path = folder / "journal.sqlite"
        self._option = f"--journal {folder}"
        with self._explained():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # it holds prompts
            self._db = sqlite3.connect(
                self.path,
                isolation_level=None,
                timeout=1.0,
                check_same_thread=False,
                cached_statements=2 * _ROWS,
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
        run("BEGIN IMMEDIATE")  # the lock is ours from here on
        self._check_format()
        run("COMMIT")
        run(f"PRAGMA max_page_count = {max(64, max_bytes // _PAGE_SIZE)}")
        ((verdict,),) = run("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        ((known, self.secret),) = run("SELECT fingerprint, secret FROM identity").fetchall() or [
            self._sign(fingerprint)
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

    def _sign(self, fingerprint: str) -> tuple[str, bytes]:
        secret = secrets.token_bytes(32)
        self._db.execute("INSERT INTO identity VALUES (?, ?)", (fingerprint, secret))
        return fingerprint, secret

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what is wrong, and what to do about it."""
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
        """What there is to go on with, oldest first. Once, before anything is written.

        Args:
            now: Unix seconds.
            keep: seconds for which clients may still ask for requests that were under way.

        Raises:
            StartupError: the journal cannot be read or written.
        """
        with self._explained(), self._transaction():
            run = self._db.execute
            run("UPDATE request SET expires = ? WHERE expires IS NULL", (now + keep,))
            gone = run(
                "SELECT id FROM request WHERE expires < ? OR (phase = ? AND attempts >= ?)",
                (now, Phase.RUNNING, _MOST_ATTEMPTS),
            ).fetchall()
            for (number,) in gone:
                self._delete(number)
            rows = run("SELECT entry, phase, expires FROM request ORDER BY id").fetchall()
        entries = []
        for data, phase, expires in rows:
            entry = decode_entry(data)
            entry.phase, entry.expires = Phase(phase), expires
            entries.append(entry)
        return entries

    def write(self, batch: Batch) -> None:
        """Commit a batch. If there is no room, entries that are over give way, the oldest first.

        Raises:
            sqlite3.Error: it could not be written; nothing of it was.
        """
        try:
            self._commit(batch)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL or not self._make_room():
                raise
            self._commit(batch)

    def load_body(self, number: int) -> bytes | None:
        """The body of an entry's request; None if it is not there.

        Raises:
            sqlite3.Error: it could not be read.
        """
        row = self._db.execute("SELECT body FROM request WHERE id = ?", (number,)).fetchone()
        return None if row is None else row[0]

    def load(self, number: int) -> Record | None:
        """What is recorded of an entry's answer; None if it is not there.

        Raises:
            sqlite3.Error: it could not be read.
        """
        row = self._db.execute(
            "SELECT entry, first, last FROM request WHERE id = ?", (number,)
        ).fetchone()
        if row is None:
            return None
        entry, first, last = row
        deltas = self._db.execute(
            "SELECT data FROM delta WHERE seq > ? AND seq <= ? AND request = ? ORDER BY seq",
            (first, last, number),
        )
        return Record(decode_entry(entry).notes, [decode_delta(data) for (data,) in deltas])

    def free_pages(self) -> None:
        """Give the disk back what deleted entries took.

        Raises:
            sqlite3.Error: that failed.
        """
        # One page a step, and `execute` would take one step.
        self._db.executescript(f"PRAGMA incremental_vacuum({_FREED_AT_ONCE})")

    @property
    def num_bytes(self) -> int:
        """On disk: the database and its log."""
        total = 0
        for path in (self.path, self.path.with_name(self.path.name + "-wal")):
            try:
                total += path.stat().st_size
            except OSError:
                continue
        return total

    def close(self) -> None:
        """Give it free for others."""
        self._db.close()

    def _commit(self, batch: Batch) -> None:
        if batch.is_plain:
            self._insert_deltas(batch.deltas)
            return
        with self._transaction():
            for entry, body in batch.inserts:
                self._db.execute(
                    "INSERT INTO request (id, entry, body, phase, expires, first, last)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(entry.id, encode_entry(entry), body, entry.phase, entry.expires),
                        *(self._seq, _UNKNOWN_END),
                    ),
                )
            for start in range(0, len(batch.deltas), _ROWS):
                self._insert_deltas(batch.deltas[start : start + _ROWS])
            for number, phase, expires in batch.phases:
                last = _UNKNOWN_END if phase is Phase.RUNNING else self._seq
                self._db.execute(
                    "UPDATE request SET phase = ?, expires = ?, last = ? WHERE id = ?",
                    (phase, expires, last, number),
                )
            for number in batch.attempts:
                self._db.execute(
                    "UPDATE request SET attempts = attempts + 1 WHERE id = ?", (number,)
                )
            for number in batch.deletes:
                self._delete(number)

    def _insert_deltas(self, deltas: Sequence[tuple[int, Delta]]) -> None:
        if not deltas:
            return
        values: list[int | bytes] = []
        for seq, (number, delta) in enumerate(deltas, self._seq + 1):
            values += (seq, number, encode_delta(delta))
        places = ",".join(["(?,?,?)"] * len(deltas))
        self._db.execute(f"INSERT INTO delta VALUES {places}", values)
        self._seq += len(deltas)

    def _delete(self, number: int) -> None:
        self._db.execute(
            "DELETE FROM delta WHERE request = ?1"
            " AND seq > (SELECT first FROM request WHERE id = ?1)"
            " AND seq <= (SELECT last FROM request WHERE id = ?1)",
            (number,),
        )
        self._db.execute("DELETE FROM request WHERE id = ?", (number,))

    def _make_room(self) -> bool:
        """Delete half of the entries that are over; whether there were any."""
        over = self._db.execute(
            "SELECT id FROM request WHERE phase = ? ORDER BY expires", (Phase.COMPLETE,)
        ).fetchall()
        with self._transaction():
            for (number,) in over[: (len(over) + 1) // 2]:
                self._delete(number)
        return bool(over)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
