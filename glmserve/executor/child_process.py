"""A process of this one that any event loop can wait for."""

from __future__ import annotations

import asyncio
import subprocess


class ChildProcess:
    """As `asyncio.subprocess.Process`, but it can be started before there is an event loop."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As in `subprocess`; None: it has not ended."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once. Nothing happens if it has ended."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, and wait until it is gone, which takes some milliseconds."""
        self._process.kill()
        self._process.wait()

    async def wait(self) -> int:
        """Wait until it has ended. Returns its code as in `subprocess`."""
        return await asyncio.to_thread(self._process.wait)
