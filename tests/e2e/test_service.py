"""A server under a service manager that passes its socket and listens to its states."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.server_process import ServerProcess

ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does between fork and exec: the socket becomes descriptor 3."""


class Heard:
    """A service manager's socket, and what came there."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(30)
        self.messages: list[str] = []

    def wait_for(self, text: str) -> None:
        while not any(text in message for message in self.messages):
            self.messages.append(self._socket.recv(4096).decode())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    made = Heard(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    yield made
    made.close()


def test_a_restarted_service_refuses_no_connection(heard: Heard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        prefix = [sys.executable, "-c", ACTIVATE, str(listener.fileno())]
        arguments = ("--device", "null", "--step-timeout", "1")
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with ServerProcess(*arguments, prefix=prefix, keep=[listener.fileno()]) as server:
            assert server.url == url
            heard.wait_for("READY=1")
            assert httpx.get(f"{url}/health/ready").status_code == 200
            heard.wait_for("WATCHDOG=1")
            assert server.stop() == 0
            heard.wait_for("STOPPING=1")
        with socket.create_connection(listener.getsockname()) as early:
            early.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            with ServerProcess(*arguments, prefix=prefix, keep=[listener.fileno()], wait=False):
                early.settimeout(30)
                assert early.recv(100).startswith(b"HTTP/1.1 200")
