"""The parent's side of limited.py, for threads."""

from __future__ import annotations

import socket
import subprocess
import threading

from glmserve.process.limited import HEADER, command, framed

_START_TIMEOUT = 30.0
"""Seconds for the start of a process, on a machine that is busy."""


class LimitedProcess:
    """Starts the process with the first request, keeps it, and replaces it when it dies.

    Args:
        module: with the function `main(descriptor, parent)`.
        setup: the first message to each process.
    """

    def __init__(self, module: str, setup: bytes) -> None:
        self._module = module
        self._setup = setup
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._is_ready = False

    def ask(self, request: bytes, timeout: float) -> bytes | None:
        """The answer to a request; None if the process died of it, or took too long.

        Args:
            timeout: seconds to wait for the answer, beside the start of the process. The process's
                own limit is CPU time.

        Raises:
            OSError: no process can be started.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._stop()  # it died of something else than a request
            connection = self._connection or self._start()
            try:
                self._wait_until_ready(connection)
                connection.settimeout(timeout)
                connection.sendall(framed(request))
                (size,) = HEADER.unpack(_receive(connection, HEADER.size))
                return _receive(connection, size)
            except (OSError, EOFError):
                self._stop()
                return None
            except BaseException:  # a late answer would be read as the next request's
                self._stop()
                raise

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._stop()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command(self._module, theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        ours.settimeout(_START_TIMEOUT)
        self._connection, self._is_ready = ours, False
        return ours

    def _wait_until_ready(self, connection: socket.socket) -> None:
        if not self._is_ready:
            connection.sendall(framed(self._setup))
            _receive(connection, HEADER.size)
            self._is_ready = True

    def _stop(self) -> None:
        """Kill the process: it has no state."""
        connection, self._connection = self._connection, None
        process, self._process = self._process, None
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()
            process.wait()


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        received = connection.recv_into(view)
        if not received:
            raise EOFError
        view = view[received:]
    return bytes(data)
