"""The journal's interface for the server, used on the event loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from glmserve.journal.entry import Delta, Entry, Phase, Record
from glmserve.journal.group_commit import Commit, GroupCommit
from glmserve.journal.index import Index
from glmserve.journal.metrics import JournalMetrics
from glmserve.journal.store import Batch, Store

T = TypeVar("T")

logger = logging.getLogger(__name__)

_EXPIRY_INTERVAL = 5.0
"""Seconds between two searches for expired entries, at most."""
_RECOVERY_SECONDS = 10.0
"""Seconds without a failure after which the log says that the journal works again."""


class Journal:
    """Keeps accepted requests and the tokens of their answers.

    If a write fails, the request continues without the journal. What is written of it stays
    correct, and the next request tries again.

    Args:
        store: an open store; this journal closes it.
        keep: seconds for which an answer can be fetched again.

    Raises:
        StartupError: the store cannot be read or written.
    """

    def __init__(self, store: Store, keep: float) -> None:
        self.secret = store.secret
        """Random bytes that stay the same for the life of the journal."""
        self.folder = store.path.parent
        self.index = Index()
        self.metrics = JournalMetrics(lambda: store.num_bytes)
        self._store = store
        self._keep = keep
        self._commits = GroupCommit(store, self._on_commit)
        self._unwritten: set[int] = set()  # ids of entries that continue without the journal
        self._pending_deletes: list[int] = []  # deletions that failed, to be repeated
        self._failed_at: float | None = None  # monotonic clock; None while writing works
        recovered = store.recover(time.time(), keep)
        self._last_id = max((entry.id for entry in recovered), default=0)
        for entry in recovered:
            entry.notes = b""
            self.index.add(entry)
            if not entry.is_stream and entry.idempotency_key is None:
                self.index.add_orphan(entry)
        self.unfinished = [e for e in recovered if e.phase is Phase.RUNNING and not e.is_stream]
        """Requests that waited for a whole answer when the last server ended."""

    def new_entry(
        self, owner: str, path: str, digest: bytes, *, is_stream: bool, idempotency_key: str | None
    ) -> Entry:
        """Make an entry for a new request and index it. `begin` or `refuse` must follow."""
        self._last_id += 1
        entry = Entry(
            id=self._last_id,
            stream_id=secrets.token_hex(16),
            owner=owner,
            path=path,
            digest=digest,
            is_stream=is_stream,
            idempotency_key=idempotency_key,
            created=time.time(),
        )
        self.index.add(entry)
        return entry

    def refuse(self, entry: Entry) -> None:
        """Remove the entry of a request that was not accepted."""
        self.index.remove(entry)

    def begin(self, entry: Entry, body: bytes) -> Commit:
        """Write an accepted request.

        Returns:
            The transaction that writes it. See `is_written` for its result.
        """
        commit = self._commits.next
        commit.batch.inserts.append((entry, body))
        return commit

    def resume(self, entry: Entry) -> None:
        """Mark an entry as running again; its answer continues from the end of the record."""
        self._unwritten.discard(entry.id)
        self._set_phase(entry, Phase.RUNNING, None)

    def record(self, entry: Entry, delta: Delta) -> Commit:
        """Write tokens of an answer.

        Returns:
            The transaction that writes them. See `is_written` for its result.
        """
        commit = self._commits.next
        if entry.id not in self._unwritten:
            commit.batch.deltas.append((entry.id, delta))
        return commit

    def end(self, entry: Entry, phase: Phase) -> None:
        """Mark the end of an entry's generation. It can be fetched again for `keep` seconds.

        Args:
            phase: COMPLETE becomes ABANDONED if a part of the answer could not be written.
        """
        is_whole = entry.id not in self._unwritten
        self._unwritten.discard(entry.id)
        if entry not in self.index:
            return
        if phase is Phase.COMPLETE and not is_whole:
            phase = Phase.ABANDONED
        self._set_phase(entry, phase, time.time() + self._keep)
        if not entry.is_stream and entry.idempotency_key is None:
            self.index.add_orphan(entry)

    def delete(self, entry: Entry) -> None:
        """Delete an entry from index and store."""
        if entry in self.index:
            self.index.remove(entry)
            self._commits.next.batch.deletes.append(entry.id)
        self._unwritten.discard(entry.id)

    def _set_phase(self, entry: Entry, phase: Phase, expires: float | None) -> None:
        entry.phase, entry.expires = phase, expires
        self._commits.next.batch.phases.append((entry.id, phase, expires))

    def is_written(self, entry: Entry) -> bool:
        """Whether every finished commit of this entry succeeded."""
        return entry.id not in self._unwritten

    async def attempt(self, entry: Entry) -> bytes | None:
        """Count an attempt to finish a request without a client, and load its body.

        Returns:
            The body, or None if the journal no longer has it.
        """
        self._commits.next.batch.attempts.append(entry.id)
        await self._commits.flush()  # first, because the request may kill this server
        return await self._read(partial(self._store.load_body, entry.id))

    async def load(self, entry: Entry) -> Record | None:
        """The record of an answer, or None if the journal no longer has it."""
        await self._commits.flush()
        return await self._read(partial(self._store.load, entry.id))

    async def _read(self, work: Callable[[], T]) -> T | None:
        try:
            return await self._commits.run(work)
        except sqlite3.Error as error:
            logger.error("the journal cannot be read: %s", error)
            return None

    async def expire_forever(self) -> None:
        """Delete entries when they expire. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(min(_EXPIRY_INTERVAL, max(self._keep, 0.1)))
            if self._expire(time.time()):
                await self._commits.flush()
                try:
                    await self._commits.run(self._store.free_pages)
                except sqlite3.Error as error:
                    logger.debug("no space was given back: %s", error)

    def _expire(self, now: float) -> int:
        expired = [e for e in self.index if e.expires is not None and e.expires < now]
        for entry in expired:
            self.delete(entry)
        return len(expired)

    async def close(self) -> None:
        """Write what is left, and release the store for other processes."""
        await self._commits.close()

    def _on_commit(self, batch: Batch, error: sqlite3.Error | None) -> None:
        if error is not None:
            self._stop_recording(batch, error)
            return
        self.metrics.commits += 1
        for entry, _ in batch.inserts:
            entry.notes = b""
        has_content = bool(batch.inserts or batch.deltas)
        if (
            self._failed_at is not None
            and has_content
            and time.monotonic() - self._failed_at >= _RECOVERY_SECONDS
        ):
            self._failed_at = None
            logger.warning("the journal can be written again")
        if self._pending_deletes:
            self._commits.next.batch.deletes += self._pending_deletes
            self._pending_deletes = []

    def _stop_recording(self, batch: Batch, error: sqlite3.Error) -> None:
        """Stop recording the requests of a batch that could not be written.

        The journal has the beginning of what their clients received. So a client that resumes from
        an event in the journal gets the right continuation.
        """
        self.metrics.failures += 1
        if self._failed_at is None:
            logger.error(
                "the journal cannot be written (%s): until it can be, requests go on without it",
                error,
            )
        self._failed_at = time.monotonic()
        for entry, _ in batch.inserts:
            self.index.remove(entry)
        lost = {entry.id for entry, _ in batch.inserts} | {number for number, _ in batch.deltas}
        self._unwritten |= lost
        self._commits.drop_deltas(lost)
        self._pending_deletes += batch.deletes
