"""Group commit: all writes that arrive during one commit go into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from glmserve.journal.batch import Batch, Written
from glmserve.journal.errors import StoreError

T = TypeVar("T")


class Commit:
    """A future transaction, and the tasks that wait for it."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.is_done = False
        """Whether it is written or has failed."""
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Wait until it is written or has failed."""
        if not self.is_done:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def end(self) -> None:
        """Mark it done and wake the waiting tasks."""
        self.is_done = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class Writable(Protocol):
    """See glmserve.journal.store.Store."""

    def write(self, batch: Batch) -> Written: ...

    def close(self) -> None: ...


class GroupCommit:
    """Reads and writes a store on a thread of its own, so that the event loop never waits for disk.

    Args:
        store: used only by this object from now on.
        on_end: called on the event loop with each batch, and with what became of it.
    """

    def __init__(
        self, store: Writable, on_end: Callable[[Batch, Written | StoreError], None]
    ) -> None:
        self._store = store
        self._on_end = on_end
        self._thread = ThreadPoolExecutor(1, "journal")
        self._next: Commit | None = None
        self._writing: Commit | None = None
        self._is_closed = False

    @property
    def next(self) -> Commit:
        """The next transaction. Writes are added to its batch."""
        if self._next is None:
            self._next = Commit()
            if self._writing is None:
                asyncio.get_running_loop().call_soon(
                    self._begin
                )  # after the tasks that this step woke
        return self._next

    def _begin(self) -> None:
        if self._next is None or self._writing is not None or self._is_closed:
            return
        self._writing, self._next = self._next, None
        writing = self._submit(partial(self._store.write, self._writing.batch))
        writing.add_done_callback(partial(self._end, self._writing))

    def _end(self, commit: Commit, writing: asyncio.Future[Written]) -> None:
        self._writing = None
        error = writing.exception()
        if error is None:
            self._on_end(commit.batch, writing.result())
        elif isinstance(error, StoreError):
            self._on_end(commit.batch, error)
        else:
            self._on_end(commit.batch, StoreError(repr(error)))
        commit.end()
        self._begin()

    def drop_deltas(self, numbers: Set[int]) -> None:
        """Remove these entries' deltas from the next transaction."""
        if numbers and self._next is not None:
            batch = self._next.batch
            batch.deltas = [item for item in batch.deltas if item[0] not in numbers]

    async def flush(self) -> None:
        """Wait until everything added so far is written or has failed."""
        last = self._next or self._writing
        if last is not None:
            await last.wait()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work`, which uses the store, on the thread. Returns its result."""
        return await self._submit(work)

    async def close(self) -> None:
        """Write what was added, and close the store. Later additions are not written."""
        await self.flush()
        self._is_closed = True
        await self._submit(self._store.close)
        self._thread.shutdown(wait=False)

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)
