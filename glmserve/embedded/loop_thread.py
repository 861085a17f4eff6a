"""An event loop on a thread of its own, for callers without one, or with one that must not wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

from glmserve.errors import ClosedError

Result = TypeVar("Result")

_END = object()


class LoopThread:
    """Runs coroutines on its loop. The thread does not keep the process alive."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._is_ending = False
        self._lock = threading.Lock()
        """So that nothing is sent to a loop that has ended, where it would wait forever."""
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._last: asyncio.Future[Coroutine[Any, Any, None]] | None = None
        self._thread = threading.Thread(target=self._main, name="glmserve", daemon=True)
        self._thread.start()
        self._loop.result()

    @property
    def is_usable(self) -> bool:
        """Whether this process has the thread, and it goes on."""
        return os.getpid() == self._process and not self._is_ending

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of a coroutine. An exception that comes meanwhile, as of Ctrl-C, cancels it.

        Raises:
            ClosedError: the thread has ended, or is another process's.
        """
        call = _Call(work)
        try:
            with self._lock:
                self._usable_loop().call_soon_threadsafe(call.begin)
            return call.result.result()
        except ClosedError:  # nothing was sent
            work.close()
            raise
        except CancelledError:
            raise ClosedError("this LLM was closed during the call") from None
        except BaseException:
            with contextlib.suppress(RuntimeError):  # the loop has ended just now
                self._loop.result().call_soon_threadsafe(call.cancel)
            raise

    def iterate(self, make: Callable[[], AsyncIterator[Result]]) -> Iterator[Result]:
        """The items of an asynchronous iterator; leaving the loop early closes it."""
        items = make()

        async def following() -> Any:
            return await anext(items, _END)

        try:
            while (item := self.run(following())) is not _END:
                yield item
        finally:
            self._close(items)

    def end(self, last: Coroutine[Any, Any, None]) -> None:
        """Run a last coroutine, cancel what still runs, and end the thread.

        May be called on the thread itself, where an object's last reference may be dropped.
        """
        if not self.is_usable:
            last.close()
            return
        with self._lock:
            self._is_ending = True
        assert self._last is not None
        self._loop.result().call_soon_threadsafe(self._last.set_result, last)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _usable_loop(self) -> asyncio.AbstractEventLoop:
        if os.getpid() != self._process:
            raise ClosedError(
                f"this LLM belongs to the process {self._process}, which was forked; make another "
                "one in this process"
            )
        if self._is_ending:
            raise ClosedError("this LLM is closed; make another one")
        if threading.current_thread() is self._thread:
            raise ClosedError("an LLM cannot be called from its own thread; use AsyncLLM")
        return self._loop.result()

    def _close(self, items: AsyncIterator[Any]) -> None:
        """Have the loop close an iterator, without waiting: this may run anywhere."""
        if not self.is_usable:
            return

        async def close() -> None:
            await items.aclose()  # type: ignore[attr-defined]

        loop = self._loop.result()
        with contextlib.suppress(RuntimeError):  # it has ended just now
            loop.call_soon_threadsafe(lambda: keep(loop.create_task(close())))

    def _main(self) -> None:
        asyncio.run(self._stay())

    async def _stay(self) -> None:
        loop = asyncio.get_running_loop()
        self._last = loop.create_future()
        self._loop.set_result(loop)
        await (await self._last)


class _Call(Generic[Result]):
    """A coroutine that the loop is to run. It exists before the loop knows of it, so that an
    exception can cancel it whenever it comes."""

    def __init__(self, work: Coroutine[Any, Any, Result]) -> None:
        self.result: Future[Result] = Future()
        self._work = work
        self._task: asyncio.Task[Result] | None = None
        self._is_cancelled = False

    def begin(self) -> None:
        """Run it; on the loop."""
        if not self._is_cancelled:
            self._task = asyncio.get_running_loop().create_task(self._work)
            self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """Cancel it, whether it has begun or not, or has ended; on the loop."""
        self._is_cancelled = True
        if self._task is None:
            self._work.close()
        else:
            self._task.cancel()

    def _end(self, task: asyncio.Task[Result]) -> None:
        if task.cancelled():
            self.result.set_exception(CancelledError())
        elif (error := task.exception()) is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result(task.result())


_tasks: set[asyncio.Task[None]] = set()


def keep(task: asyncio.Task[None]) -> None:
    """Hold a task until it is done: a loop holds its tasks weakly."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
