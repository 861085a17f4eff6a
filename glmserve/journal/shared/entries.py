"""The entries of a store that several servers share, for one of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from glmserve.journal.entry import Entry, Record
from glmserve.journal.errors import StoreError
from glmserve.journal.group_commit import GroupCommit
from glmserve.journal.index import Index
from glmserve.journal.store import Claim

logger = logging.getLogger(__name__)

T = TypeVar("T")

_HEARTBEAT = 1.0
"""Seconds between two renewals of the lease; it lasts several times as long."""
_ID_DIGITS = 15
"""Hexadecimal digits of a stream id that are the entry's id: 60 bits, which fit everywhere."""


class SharedStore(Protocol):
    """What a store of several servers can do; see RedisStore."""

    def find_stream(self, owner: str, stream_id: str) -> Entry | None: ...

    def find_key(self, owner: str, idempotency_key: str) -> Entry | None: ...

    def find_orphan(self, owner: str, digest: bytes) -> Entry | None: ...

    def reserve(self, entry: Entry) -> bool: ...

    def take(self, entry: Entry, claim: Claim) -> Record | None: ...

    def adopt(self, expires: float) -> list[Entry]: ...

    def tend(self, now: float, keep: float) -> None: ...


class SharedEntries:
    """Asks the store for each entry; in memory are those that are being answered. See Entries.

    While the store cannot be read, a request without `Last-Event-ID` counts as new.

    Args:
        store: of several servers.
        commits: writes and reads the store.
        keep: seconds for which an answer can be fetched again.
    """

    def __init__(self, store: SharedStore, commits: GroupCommit, keep: float) -> None:
        self.index = Index()
        self._store = store
        self._commits = commits
        self._keep = keep

    def __str__(self) -> str:
        return "shared with other servers"

    def new_id(self, stream_id: str) -> int:
        return id_of(stream_id)

    async def find_stream(self, owner: str, stream_id: str) -> Entry | None:
        return await self._commits.run(partial(self._store.find_stream, owner, stream_id))

    async def find_key(self, owner: str, idempotency_key: str) -> Entry | None:
        return await self._find(partial(self._store.find_key, owner, idempotency_key))

    async def find_orphan(self, owner: str, digest: bytes) -> Entry | None:
        return await self._find(partial(self._store.find_orphan, owner, digest))

    async def reserve(self, entry: Entry) -> bool:
        if entry.idempotency_key is not None:
            try:
                if not await self._commits.run(partial(self._store.reserve, entry)):
                    return False
            except StoreError:
                pass  # it goes on without the journal
        self.index.add(entry)
        return True

    def refused(self, entry: Entry) -> None:
        self.index.remove(entry)
        if entry.idempotency_key is not None:
            self._commits.next.batch.refused.append(entry)

    def ended(self, entry: Entry) -> None:
        self.index.remove(entry)

    async def take(self, entry: Entry, claim: Claim) -> Record | None:
        await self._commits.flush()
        record = await self._commits.run(partial(self._store.take, entry, claim))
        if record is not None:
            self.index.add(entry)
        return record

    async def next_unfinished(self) -> list[Entry]:
        while True:
            try:
                expires = time.time() + self._keep
                entries = await self._commits.run(partial(self._store.adopt, expires))
            except StoreError:
                entries = []
            if entries:
                for entry in entries:
                    self.index.add(entry)
                return entries
            await asyncio.sleep(_HEARTBEAT)

    async def tend_forever(self) -> None:
        while True:
            try:
                await self._commits.run(lambda: self._store.tend(time.time(), self._keep))
            except StoreError as error:
                logger.debug("the lease is not renewed: %s", error)
            await asyncio.sleep(_HEARTBEAT)

    async def _find(self, work: Callable[[], Entry | None]) -> Entry | None:
        await self._commits.flush()
        try:
            return await self._commits.run(work)
        except StoreError:
            return None


def id_of(stream_id: str) -> int:
    """The id of the entry with this stream id."""
    return int(stream_id[:_ID_DIGITS], 16)
