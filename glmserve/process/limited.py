"""A process with limits on time, memory and stack, which does what a stranger's input may overdo.

It is started with one end of a socketpair. It receives a setup, and says that it is ready by an
empty message. Then it receives requests, and answers each. It may die of a request; then its parent
starts another one.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from glmserve.process.parent import die_with

HEADER = struct.Struct("<I")
"""Length of the message behind it."""

_PACKAGE_ROOT = Path(__file__).parents[2]
_NICENESS = 10


class Limits(NamedTuple):
    """What the process may use."""

    cpu_seconds: float
    """For one request. CPU time does not depend on the machine's load."""
    memory: int
    """Bytes."""
    stack: int
    """Bytes."""


def command(module: str, descriptor: int) -> list[str]:
    """The command line of a process that runs `module.main(descriptor, parent)`.

    Args:
        descriptor: of its end of the socketpair, which it inherits.
    """
    # See executor/worker_process.py for -P and the explicit path.
    code = (
        f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
        f"from {module} import main; main({descriptor}, {os.getpid()})"
    )
    return [sys.executable, "-P", "-c", code]


def framed(body: bytes) -> bytes:
    """A message as it is sent."""
    return HEADER.pack(len(body)) + body


def answer_requests(
    descriptor: int,
    parent: int,
    limits: Limits,
    prepare: Callable[[bytes], Callable[[bytes], bytes]],
) -> None:
    """Serve the other end of the inherited socket `descriptor` until it closes.

    Args:
        parent: id of the parent's process. This process ends with it.
        prepare: makes the function that answers requests from the setup.
    """
    die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The parent handles signals; when it exits, the socket closes.
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
    os.nice(_NICENESS)
    threading.stack_size(limits.stack)
    with socket.socket(fileno=descriptor) as connection:
        thread = threading.Thread(target=_serve, args=(connection, limits.cpu_seconds, prepare))
        thread.start()
        thread.join()


def _serve(
    connection: socket.socket,
    cpu_seconds: float,
    prepare: Callable[[bytes], Callable[[bytes], bytes]],
) -> None:
    frames = _frames(connection)
    answer = prepare(next(frames))
    connection.sendall(framed(b""))
    for frame in frames:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        body = answer(frame)
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.sendall(framed(body))


def _frames(connection: socket.socket) -> Iterator[bytes]:
    with connection.makefile("rb") as file:
        while len(header := file.read(HEADER.size)) == HEADER.size:
            (size,) = HEADER.unpack(header)
            body = file.read(size)
            if len(body) < size:
                return
            yield body
