"""A real Redis for tests, on a socket in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest


class RedisServer:
    """Runs `redis-server` with an append-only file. Skips the test if there is none.

    It writes to the file before it answers. With fsync it would write later while the disk is busy,
    and lose that when it is killed.

    Args:
        folder: for its socket and its file.
        options: further options of redis-server.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("needs redis-server (Debian's package redis-server)")
        pytest.importorskip("redis", reason="needs the redis extra")
        self._socket = folder / "redis.sock"
        self._command = ["redis-server", "--port", "0", "--unixsocket", str(self._socket)]
        self._command += ["--dir", str(folder), "--save", "", "--appendonly", "yes"]
        self._command += ["--appendfsync", "no", *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, database: int = 0) -> str:
        return f"unix://{self._socket}?db={database}"

    def start(self) -> None:
        """Start it, with what its file has."""
        self._socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._socket.exists():
            assert time.monotonic() < deadline, "redis-server does not start"
            assert self._process.poll() is None, "redis-server has ended"
            time.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kill it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
