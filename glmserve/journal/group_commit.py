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


class GroupCommit:
    """Reads and writes a store on a thread of its own, so that no event loop waits for a disk.

    Args:
        store: nobody else uses it any more.
        on_done: called on the event loop with each batch, and with the error if it is not written.
    """

    def __init__(
        self, store: Store, on_done: Callable[[Batch, sqlite3.Error | None], None]
    ) -> None:
        self._store = store
        self._on_done = on_done
        self._thread = ThreadPoolExecutor(1, "journal")
        self._filling: tuple[Batch, asyncio.Future[None]] | None = None
        self._writing: asyncio.Future[None] | None = None

    @property
    def batch(self) -> Batch:
        """What will be written next, to be added to."""
        return self._next()[0]

    @property
    def written(self) -> asyncio.Future[None]:
        """Done when that is written, or has failed. To be waited for through `asyncio.shield`."""
        return self._next()[1]

    def _next(self) -> tuple[Batch, asyncio.Future[None]]:
        if self._filling is None:
            loop = asyncio.get_running_loop()
            self._filling = Batch(), loop.create_future()
            if self._writing is None:
                loop.call_soon(self._begin)  # behind all that a step has woken
        return self._filling

    def _begin(self) -> None:
        if self._filling is None or self._writing is not None:
            return
        batch, written = self._filling
        self._filling, self._writing = None, written
        writing = self._submit(partial(self._store.write, batch))
        writing.add_done_callback(partial(self._end, batch, written))

    def _end(
        self, batch: Batch, written: asyncio.Future[None], writing: asyncio.Future[None]
    ) -> None:
        self._writing = None
        error = writing.exception()
        if error is not None and not isinstance(error, sqlite3.Error):
            error = sqlite3.Error(repr(error))
        self._on_done(batch, error)
        written.set_result(None)
        self._begin()

    def drop_deltas(self, numbers: set[int]) -> None:
        """Do not write those of these entries that wait to be written."""
        if self._filling is not None:
            batch = self._filling[0]
            batch.deltas = [item for item in batch.deltas if item[0] not in numbers]

    async def settle(self) -> None:
        """Return when all that has been added so far is written, or has failed."""
        if self._filling is not None:
            await asyncio.shield(self._filling[1])
        elif self._writing is not None:
            await asyncio.shield(self._writing)

    async def run(self, work: Callable[[], T]) -> T:
        """Let the thread do something else with the store."""
        return await self._submit(work)

    async def close(self) -> None:
        """Write what is left, and close the store."""
        await self.settle()
        await self._submit(self._store.close)
        self._thread.shutdown(wait=False)

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)
