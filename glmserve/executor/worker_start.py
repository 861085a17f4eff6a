"""Starts a worker process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_PACKAGE_ROOT = Path(__file__).parents[2]

Connection = TypeVar("Connection", bound=asyncio.Protocol)


async def start_worker(
    make_connection: Callable[[], Connection], meeting: socket.socket | None
) -> tuple[asyncio.subprocess.Process, Connection]:
    """Start a process that runs `glmserve.worker.main`, and waits for its config.

    Args:
        make_connection: makes the protocol at this end of the connection.
        meeting: a listening socket for the process, see `Group.rendezvous`.

    Raises:
        OSError: it cannot be started.
    """
    ours, theirs = socket.socketpair()
    process = None
    try:
        with theirs:
            process = await _start(theirs, meeting)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(make_connection, sock=ours)
    except BaseException:
        ours.close()
        if process is not None:
            process.kill()
            await process.wait()
        raise
    return process, connection


async def _start(
    connection: socket.socket, meeting: socket.socket | None
) -> asyncio.subprocess.Process:
    """Start a worker that inherits its end of the connection."""
    inherited = [connection.fileno(), *([meeting.fileno()] if meeting else [])]
    # -P and the explicit path keep the current folder off the worker's module search path, so that
    # a file named torch.py in it is not run.
    arguments = [connection.fileno(), os.getpid(), meeting.fileno() if meeting else None]
    code = (
        f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
        f"from glmserve.worker.main import main; main(*{arguments})"
    )
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-c", code),
        pass_fds=inherited,
        stdin=asyncio.subprocess.DEVNULL,
    )
