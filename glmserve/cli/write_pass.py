"""One pass over the connections that have something to write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class WritePass:
    """Calls back in the next turn of the event loop, all callbacks in one go.

    The loop's own `call_soon` makes a handle and a copy of the context for each of them.
    """

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def add(self, callback: Callable[[], None]) -> None:
        """Call it once, behind those that were added before. It must not raise."""
        if not self._callbacks:
            asyncio.get_running_loop().call_soon(self._run)
        self._callbacks.append(callback)

    def _run(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
