"""Starts a worker process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from glmserve.executor.child_process import ChildProcess

_PACKAGE_ROOT = Path(__file__).parents[2]

Connection = TypeVar("Connection", bound=asyncio.Protocol)


class StartedWorker:
    """A process that runs `glmserve.worker.main` and waits for its config.

    Args:
        meeting: a listening socket for the process, see `Group.rendezvous`.
        imports_torch: whether it imports torch before it waits.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, meeting: socket.socket | None = None, *, imports_torch: bool = False):
        self._ours, theirs = socket.socketpair()
        self._is_connected = False
        try:
            with theirs:
                self.process = _start(theirs, meeting, imports_torch=imports_torch)
        except BaseException:
            self._ours.close()
            raise

    async def connect(self, make_connection: Callable[[], Connection]) -> Connection:
        """Connect the event loop with the process. If that fails, the process is ended.

        Args:
            make_connection: makes the protocol at this end of the connection.
        """
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(make_connection, sock=self._ours)
        except BaseException:
            self.close()
            raise
        self._is_connected = True
        return connection

    def close(self) -> None:
        """End the process if it was not connected."""
        if not self._is_connected:
            self._ours.close()
            self.process.end()


def _start(
    connection: socket.socket, meeting: socket.socket | None, *, imports_torch: bool
) -> ChildProcess:
    """Start a worker that inherits its end of the connection."""
    inherited = [connection.fileno(), *([meeting.fileno()] if meeting else [])]
    # -P and the explicit path keep the current folder off the worker's module search path, so that
    # a file named torch.py in it is not run.
    arguments = [
        connection.fileno(),
        os.getpid(),
        meeting.fileno() if meeting else None,
        imports_torch,
    ]
    code = (
        f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
        f"from glmserve.worker.main import main; main(*{arguments})"
    )
    # Ctrl-C signals the worker as well, which ignores it as soon as it runs. Until then it waits.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code], pass_fds=inherited, stdin=subprocess.DEVNULL
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return ChildProcess(process)
