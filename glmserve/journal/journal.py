"""The journal's interface for the server, used on the event loop."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Set
from functools import partial

from glmserve.journal.batch import Batch, Written
from glmserve.journal.entry import Delta, Entry, Phase, Record
from glmserve.journal.errors import StoreError
from glmserve.journal.group_commit import Commit, GroupCommit
from glmserve.journal.metrics import JournalMetrics
from glmserve.journal.store import Claim, Store

logger = logging.getLogger(__name__)

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
        self.metrics = JournalMetrics(lambda: store.num_bytes)
        self.on_taken: Callable[[int], None] = _ignore
        """Called with the id of an entry that another server goes on with: it is not this one's any
        more."""
        self._store = store
        self._keep = keep
        self._commits = GroupCommit(store, self._on_commit)
        self._unwritten: set[int] = set()  # ids of entries that continue without the journal
        self._pending_deletes: list[int] = []  # deletions that failed, to be repeated
        self._failed_at: float | None = None  # monotonic clock; None while writing works
        self.entries = store.entries(self._commits, keep)
        self.index = self.entries.index

    def __str__(self) -> str:
        return f"{self._store.place}; {self.entries}"

    async def reserve(
        self,
        owner: str,
        path: str,
        digest: bytes,
        *,
        is_stream: bool,
        idempotency_key: str | None,
        adapter: str = "",
    ) -> Entry | None:
        """Make an entry for a new request and index it. `begin` or `refuse` must follow.

        Args:
            adapter: see Entry.

        Returns:
            None if another server was quicker with this idempotency key.
        """
        stream_id = secrets.token_hex(16)
        entry = Entry(
            id=self.entries.new_id(stream_id),
            stream_id=stream_id,
            owner=owner,
            path=path,
            digest=digest,
            is_stream=is_stream,
            idempotency_key=idempotency_key,
            created=time.time(),
            adapter=adapter,
        )
        return entry if await self.entries.reserve(entry) else None

    def refuse(self, entry: Entry) -> None:
        """Remove the entry of a request that was not accepted."""
        self.entries.refused(entry)

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
        self.entries.ended(entry)

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
        self._commits.next.batch.attempts.append((entry.id, 1))
        await self._commits.flush()  # first, because the request may kill this server
        try:
            return await self._commits.run(partial(self._store.load_body, entry.id))
        except StoreError as error:
            logger.error("the journal cannot be read: %s", error)
            return None

    def take_back_attempt(self, entry: Entry) -> None:
        """Do not count the last attempt: this server had no room for the request."""
        self._commits.next.batch.attempts.append((entry.id, -1))

    async def take(self, entry: Entry, claim: Claim) -> Record | None:
        """Take an entry to go on with its answer; see Entries.take. `resume` must follow."""
        return await self.entries.take(entry, claim)

    async def close(self) -> None:
        """Write what is left, and release the store for other processes."""
        await self._commits.close()

    def _on_commit(self, batch: Batch, result: Written | StoreError) -> None:
        if isinstance(result, StoreError):
            self._fail(batch, result)
            return
        self.metrics.commits += 1
        for entry, _ in batch.inserts:
            entry.notes = b""
        for number in result.taken:
            self.on_taken(number)
            self.index.discard(number)
        self._commits.drop_deltas(result.taken)
        self._stop_recording(batch, result.gone)
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

    def _fail(self, batch: Batch, error: StoreError) -> None:
        self.metrics.failures += 1
        if self._failed_at is None:
            logger.error(
                "the journal cannot be written (%s): until it can be, requests go on without it",
                error,
            )
        self._failed_at = time.monotonic()
        lost = {entry.id for entry, _ in batch.inserts} | {number for number, _ in batch.deltas}
        self._stop_recording(batch, lost)
        self._pending_deletes += batch.deletes

    def _stop_recording(self, batch: Batch, lost: Set[int]) -> None:
        """Stop recording requests of a batch that were not written.

        The journal has the beginning of what their clients received. So a client that resumes from
        an event in the journal gets the right continuation.
        """
        if not lost:
            return
        for entry, _ in batch.inserts:
            if entry.id in lost:
                self.index.remove(entry)
        self._unwritten |= lost
        self._commits.drop_deltas(lost)


def _ignore(number: int) -> None:
    """Nothing is taken from a store of one server."""
