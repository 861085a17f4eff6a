"""Loads adapters beside the steps: reads them on a thread, and installs them between two steps."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, cast

from glmserve.contract.adapter import AdapterRunner, AdapterSource
from glmserve.contract.step import Runner
from glmserve.contract.wire import AdapterLoaded
from glmserve.errors import AdapterError, GlmserveError

_SWITCH_INTERVAL = 0.0002
"""Seconds after which the reading thread lets that of the steps go on; Python's default is 5 ms,
and a step may have to wait so long after each of its operations."""
_SECONDS_TO_END = 1.0
"""The most that `close` waits for an adapter that is being read."""


class _Read(NamedTuple):
    """An adapter whose files were read."""

    adapter_id: int
    install: Callable[[], None] | None
    """None: it is refused."""
    error: str = ""


class AdapterLoader:
    """Reads one adapter after the other. All methods belong to the thread that executes steps.

    Args:
        runner: holds the adapters.
    """

    def __init__(self, runner: Runner) -> None:
        self._max_adapters = runner.info.limits.max_adapters
        self._runner = cast(AdapterRunner, runner)  # if it may have any
        self._sources: SimpleQueue[AdapterSource | None] = SimpleQueue()
        self._read: deque[_Read] = deque()
        self._installed: set[int] = set()
        self._num_reading = 0
        self._thread: Thread | None = None
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)

    @property
    def is_reading(self) -> bool:
        """Whether an adapter has been begun and is not answered."""
        return self._num_reading > 0

    def fileno(self) -> int:
        """A descriptor that can be read when an adapter has been read."""
        return self._wake_receiver.fileno()

    def begin(self, source: AdapterSource) -> None:
        """Begin to read an adapter. `finish` returns the answer later."""
        self._num_reading += 1
        if self._thread is None:
            self._thread = Thread(target=self._read_all, name="adapters", daemon=True)
            self._thread.start()
        self._sources.put(source)

    def finish(self) -> list[AdapterLoaded]:
        """Install the adapters that have been read. Called between two steps."""
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(4096)
        answers = []
        while self._read:
            answers.append(self._install(self._read.popleft()))
            self._num_reading -= 1
        return answers

    def remove(self, adapter_id: int) -> None:
        """Free an adapter, unless this worker has refused it. Called between two steps."""
        if adapter_id in self._installed:
            self._installed.remove(adapter_id)
            self._runner.remove_adapter(adapter_id)

    def close(self) -> None:
        """Read no more. The adapter that is being read now may still take its time.

        The thread is waited for, as Python stops threads that are left when the process ends, and
        some of torch's memory of a thread does not survive that.
        """
        self._sources.put(None)
        if self._thread is not None:
            self._thread.join(_SECONDS_TO_END)
        self._wake_receiver.close()
        self._wake_sender.close()

    def _install(self, read: _Read) -> AdapterLoaded:
        error = read.error
        if read.install is not None:
            try:
                read.install()
                self._installed.add(read.adapter_id)
            except Exception as problem:
                error = _reason(problem)
        return AdapterLoaded(read.adapter_id, error)

    def _read_all(self) -> None:
        sys.setswitchinterval(_SWITCH_INTERVAL)
        while (source := self._sources.get()) is not None:
            try:
                read = _Read(source.id, self._read_one(source))
            except Exception as problem:  # a hostile or damaged file can cause any error
                read = _Read(source.id, None, _reason(problem))
            self._read.append(read)
            with contextlib.suppress(OSError):  # closed
                self._wake_sender.send(b"\0")

    def _read_one(self, source: AdapterSource) -> Callable[[], None]:
        if not self._max_adapters:
            raise AdapterError("this worker was started without room for adapters")
        return self._runner.read_adapter(source)


def _reason(problem: Exception) -> str:
    """Why an adapter is refused: never empty, in one line."""
    if isinstance(problem, GlmserveError):
        return " ".join(problem.message.split()) or "it cannot be loaded"
    if isinstance(problem, MemoryError):
        return "not enough memory for this adapter"
    return f"it cannot be loaded: {type(problem).__name__}: {' '.join(str(problem).split())}"
