"""Shares limited processes among threads, so that a slow request does not hold up the others."""

from __future__ import annotations

import queue
import threading

from glmserve.errors import QueueFullError
from glmserve.process.limited_client import LimitedProcess

_NUM_QUICK = 4
"""Processes for quick requests. One is started only while all others are busy."""
_QUICK = 0.15
"""Seconds of the clock after which a request is a slow one."""
_MAX_SLOW = 8
"""Slow requests that run or wait."""


class LimitedLanes:
    """Gives each request a short time in one of a few processes. One that needs more is begun again
    in a process for slow requests, which takes one after the other.

    Args:
        module, setup: see LimitedProcess.
        timeout: seconds to wait for the answer to a slow request.
    """

    def __init__(self, module: str, setup: bytes, timeout: float) -> None:
        self._processes = [LimitedProcess(module, setup) for _ in range(_NUM_QUICK + 1)]
        self._slow = self._processes[-1]
        self._timeout = timeout
        self._idle: queue.LifoQueue[LimitedProcess] = queue.LifoQueue()
        for process in self._processes[:-1]:
            self._idle.put(process)
        self._places = threading.Semaphore(_MAX_SLOW)

    def ask(self, request: bytes) -> bytes | None:
        """The answer to a request; None if a process died of it, or took too long.

        Raises:
            QueueFullError: too many slow requests wait.
            OSError: no process can be started.
        """
        process = self._idle.get()
        try:
            answer = process.ask(request, _QUICK)
        finally:
            self._idle.put(process)
        if answer is not None:
            return answer
        if not self._places.acquire(blocking=False):
            raise QueueFullError(
                f"{_MAX_SLOW} other conversations that take the chat template long are waiting; "
                "try again later"
            )
        try:
            return self._slow.ask(request, self._timeout)
        finally:
            self._places.release()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()
