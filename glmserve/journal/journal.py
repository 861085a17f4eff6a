"""The journal as the server uses it, on its event loop."""

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

_TIDYING_PAUSE = 5.0  # seconds
_CALM = 10.0
"""Seconds without a failure after which the journal is said to work again."""


class Journal:
    """Keeps accepted requests and the tokens that were made into answers.

    What cannot be written is not waited for: its request goes on without the journal, what is
    written of it stays true, and the next request tries again.

    Args:
        store: an opened one; this journal closes it.
        keep: seconds for which clients may come back.

    Raises:
        StartupError: it cannot be read or written.
    """

    def __init__(self, store: Store, keep: float) -> None:
        self.secret = store.secret
        """Random bytes that stay the same as long as the journal lives."""
        self.folder = store.path.parent
        self.index = Index()
        self.metrics = JournalMetrics(lambda: store.num_bytes)
        self._store = store
        self._keep = keep
        self._commits = GroupCommit(store, self._on_commit)
        self._unwritten: set[int] = set()  # entries that go on without the journal
        self._late_deletes: list[int] = []  # for when it can be written again
        self._failed_at: float | None = None  # clock reading; None while all is well
        recovered = store.recover(time.time(), keep)
        self._last_id = max((entry.id for entry in recovered), default=0)
        for entry in recovered:
            entry.notes = b""
            self.index.add(entry)
            if not entry.is_stream and entry.idempotency_key is None:
                self.index.add_orphan(entry)
        self.unfinished = [e for e in recovered if e.phase is Phase.RUNNING and not e.is_stream]
        """Requests whose clients were waiting for a whole answer when the last server ended."""

    def new_entry(
        self, owner: str, path: str, digest: bytes, *, is_stream: bool, idempotency_key: str | None
    ) -> Entry:
        """An entry for a new request, to `begin` or to `refuse`. It can be found from now on."""
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
        """The request was not accepted."""
        self.index.remove(entry)

    def begin(self, entry: Entry, body: bytes) -> Commit:
        """The request is accepted: keep it. What is returned will have done so."""
        commit = self._commits.next
        commit.batch.inserts.append((entry, body))
        return commit

    def resume(self, entry: Entry) -> None:
        """Somebody answers it again, from where the journal ends."""
        self._unwritten.discard(entry.id)
        self._move(entry, Phase.RUNNING, None)

    def record(self, entry: Entry, delta: Delta) -> Commit:
        """This becomes a part of the answer now; see `is_written` for what came of the commit."""
        commit = self._commits.next
        if entry.id not in self._unwritten:
            commit.batch.deltas.append((entry.id, delta))
        return commit

    def end(self, entry: Entry, phase: Phase) -> None:
        """Nobody answers it any more; for a while it can be asked for again."""
        is_whole = entry.id not in self._unwritten
        self._unwritten.discard(entry.id)
        if entry not in self.index:
            return
        if phase is Phase.COMPLETE and not is_whole:
            phase = Phase.ABANDONED
        self._move(entry, phase, time.time() + self._keep)
        if not entry.is_stream and entry.idempotency_key is None:
            self.index.add_orphan(entry)

    def delete(self, entry: Entry) -> None:
        """Nobody can ask for it any more."""
        if entry in self.index:
            self.index.remove(entry)
            self._commits.next.batch.deletes.append(entry.id)
        self._unwritten.discard(entry.id)

    def _move(self, entry: Entry, phase: Phase, expires: float | None) -> None:
        entry.phase, entry.expires = phase, expires
        self._commits.next.batch.phases.append((entry.id, phase, expires))

    def is_written(self, entry: Entry) -> bool:
        """Whether all that was recorded of it, and committed since, is in the journal."""
        return entry.id not in self._unwritten

    async def attempt(self, entry: Entry) -> bytes | None:
        """The body of a request that is to be finished though nobody asks.

        None if the journal does not have it any more.
        """
        self._commits.next.batch.attempts.append(entry.id)
        await self._commits.settle()  # before it can kill this server, too
        return await self._read(partial(self._store.load_body, entry.id))

    async def load(self, entry: Entry) -> Record | None:
        """What is recorded of the answer; None if the journal has nothing of it any more."""
        await self._commits.settle()
        return await self._read(partial(self._store.load, entry.id))

    async def _read(self, work: Callable[[], T]) -> T | None:
        try:
            return await self._commits.run(work)
        except sqlite3.Error as error:
            logger.error("the journal cannot be read: %s", error)
            return None

    async def tidy_forever(self) -> None:
        """Delete what nobody has asked for in time."""
        while True:
            await asyncio.sleep(min(_TIDYING_PAUSE, max(self._keep, 0.1)))
            if self._expire(time.time()):
                await self._commits.settle()
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
        """Write what is left, and let others use it."""
        await self._commits.close()

    def _on_commit(self, batch: Batch, error: sqlite3.Error | None) -> None:
        if error is not None:
            self._give_up(batch, error)
            return
        self.metrics.commits += 1
        for entry, _ in batch.inserts:
            entry.notes = b""
        has_news = bool(batch.inserts or batch.deltas)
        if self._failed_at is not None and has_news and time.monotonic() - self._failed_at >= _CALM:
            self._failed_at = None
            logger.warning("the journal can be written again")
        if self._late_deletes:
            self._commits.next.batch.deletes += self._late_deletes
            self._late_deletes = []

    def _give_up(self, batch: Batch, error: sqlite3.Error) -> None:
        """Write no more of requests that have a gap now.

        What is in the journal of them is the beginning of what their clients got, so whoever asks
        for the rest gets the right one.
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
        self._late_deletes += batch.deletes
