"""Everything that comes while a commit is under way goes into the next one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from glmserve.journal.store import Batch, Store

T = TypeVar("T")


class Commit:
    """A transaction to come, and who waits for it."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.is_over = False
        """Whether it is written, or has failed."""
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Return when it is over."""
        if not self.is_over:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def end(self) -> None:
        """It is over."""
        self.is_over = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class GroupCommit:
    """Reads and writes a store on a thread of its own, so that no event loop waits for a disk.

    Args:
        store: nobody else uses it any more.
        on_end: called on the event loop with each batch, and with the error if it is not written.
    """

    def __init__(self, store: Store, on_end: Callable[[Batch, sqlite3.Error | None], None]) -> None:
        self._store = store
        self._on_end = on_end
        self._thread = ThreadPoolExecutor(1, "journal")
        self._next: Commit | None = None
        self._writing: Commit | None = None
        self._is_closed = False

    @property
    def next(self) -> Commit:
        """What will be written next, to be added to."""
        if self._next is None:
            self._next = Commit()
            if self._writing is None:
                asyncio.get_running_loop().call_soon(self._begin)  # behind all that a step woke
        return self._next

    def _begin(self) -> None:
        if self._next is None or self._writing is not None or self._is_closed:
            return
        self._writing, self._next = self._next, None
        writing = self._submit(partial(self._store.write, self._writing.batch))
        writing.add_done_callback(partial(self._end, self._writing))

    def _end(self, commit: Commit, writing: asyncio.Future[None]) -> None:
        self._writing = None
        error = writing.exception()
        if error is not None and not isinstance(error, sqlite3.Error):
            error = sqlite3.Error(repr(error))
        self._on_end(commit.batch, error)
        commit.end()
        self._begin()

    def drop_deltas(self, numbers: set[int]) -> None:
        """Do not write those of these entries that wait to be written."""
        if self._next is not None:
            batch = self._next.batch
            batch.deltas = [item for item in batch.deltas if item[0] not in numbers]

    async def settle(self) -> None:
        """Return when all that has been added so far is written, or has failed."""
        last = self._next or self._writing
        if last is not None:
            await last.wait()

    async def run(self, work: Callable[[], T]) -> T:
        """Let the thread do something else with the store."""
        return await self._submit(work)

    async def close(self) -> None:
        """Write what there is, and close the store. What comes later is not written."""
        await self.settle()
        self._is_closed = True
        await self._submit(self._store.close)
        self._thread.shutdown(wait=False)

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)
