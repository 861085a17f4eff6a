"""The entries of a store that one server has for itself."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import Protocol

from glmserve.journal.entry import Entry, Phase, Record
from glmserve.journal.errors import StoreError
from glmserve.journal.group_commit import GroupCommit
from glmserve.journal.index import Index
from glmserve.journal.store import Claim

logger = logging.getLogger(__name__)

_EXPIRY_INTERVAL = 5.0
"""Seconds between two searches for expired entries, at most."""


class LocalStore(Protocol):
    """What a store of one server can do besides; see SqliteStore."""

    def recover(self, now: float, keep: float) -> list[Entry]: ...

    def load(self, entry_id: int) -> Record | None: ...

    def free_pages(self) -> None: ...


class LocalEntries:
    """All entries are in memory. See Entries.

    Args:
        store: of this server alone; it is read at once.
        commits: writes and reads the store.
        keep: seconds for which an answer can be fetched again.

    Raises:
        StartupError: the store cannot be read or written.
    """

    def __init__(self, store: LocalStore, commits: GroupCommit, keep: float) -> None:
        self.index = Index()
        self._store = store
        self._commits = commits
        self._keep = keep
        recovered = store.recover(time.time(), keep)
        self._last_id = max((entry.id for entry in recovered), default=0)
        for entry in recovered:
            entry.notes = b""
            self.index.add(entry)
            self.ended(entry)
        self._unfinished = [e for e in recovered if e.phase is Phase.RUNNING and not e.is_stream]

    def __str__(self) -> str:
        return f"{len(list(self.index))} answers kept, {len(self._unfinished)} of them to finish"

    def new_id(self, stream_id: str) -> int:
        self._last_id += 1
        return self._last_id

    # These do not suspend, so nothing comes between finding no entry and reserving one.
    async def find_stream(self, owner: str, stream_id: str) -> Entry | None:
        return self.index.find_stream(owner, stream_id)

    async def find_key(self, owner: str, idempotency_key: str) -> Entry | None:
        return self.index.find_key(owner, idempotency_key)

    async def find_orphan(self, owner: str, digest: bytes) -> Entry | None:
        return self.index.find_orphan(owner, digest)

    async def reserve(self, entry: Entry) -> bool:
        self.index.add(entry)
        return True

    def refused(self, entry: Entry) -> None:
        self.index.remove(entry)

    def ended(self, entry: Entry) -> None:
        if not entry.is_stream and entry.idempotency_key is None:
            self.index.add_orphan(entry)

    async def take(self, entry: Entry, claim: Claim) -> Record | None:
        if claim is Claim.ORPHAN:
            self.index.claim_orphan(entry)
        await self._commits.flush()
        try:
            return await self._commits.run(partial(self._store.load, entry.id))
        except StoreError as error:
            logger.error("the journal cannot be read: %s", error)
            return None

    async def next_unfinished(self) -> list[Entry]:
        unfinished, self._unfinished = self._unfinished, []
        return unfinished

    async def tend_forever(self) -> None:
        while True:
            await asyncio.sleep(min(_EXPIRY_INTERVAL, max(self._keep, 0.1)))
            if self._expire(time.time()):
                await self._commits.flush()
                try:
                    await self._commits.run(self._store.free_pages)
                except StoreError as error:
                    logger.debug("no space was given back: %s", error)

    def _expire(self, now: float) -> int:
        expired = [e for e in self.index if e.expires is not None and e.expires < now]
        for entry in expired:
            self.index.remove(entry)
            self._commits.next.batch.deletes.append(entry.id)
        return len(expired)
