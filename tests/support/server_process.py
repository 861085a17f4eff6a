"""Runs `glmserve serve` for tests, and never leaves it behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import httpx

READY_TIMEOUT = 90.0


class ServerProcess:
    """`with ServerProcess("--device", "null") as server:` waits until the server is ready."""

    def __init__(
        self,
        *arguments: str,
        wait: bool = True,
        prefix: Sequence[str] = (),
        keep: Sequence[int] = (),
    ) -> None:
        """Start it.

        Args:
            prefix: a command that runs the command behind it, such as `nice`.
            keep: descriptors that it inherits.
        """
        self._wait = wait
        self.output: list[str] = []
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "glmserve", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=keep,
        )
        self._announced = threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def address(self) -> tuple[str, int]:
        """For sockets."""
        host, port = self.url.partition("//")[2].rsplit(":", 1)
        return host, int(port)

    @property
    def text(self) -> str:
        """Everything printed so far."""
        return "".join(self.output)

    def __enter__(self) -> ServerProcess:
        if self._wait:
            self.wait_until_announced()
        if self._wait and not self.url:
            self.stop()
            raise AssertionError(f"the server ended:\n{self.text}")
        return self

    def wait_until_announced(self) -> None:
        """Until the server says how to reach it, or has ended."""
        if not self._announced.wait(READY_TIMEOUT):
            self.stop()
            raise AssertionError(f"the server did not become ready:\n{self.text}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """SIGTERM, then SIGKILL if that does not help; the exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for the process to end by itself; its exit code."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def metric(self, name: str) -> float:
        """The value of a metric; its label model_name is left out."""
        text = httpx.get(f"{self.url}/metrics").text
        text = re.sub(r',?model_name="[^"]*"', "", text).replace("{,", "{").replace("{}", "")
        match = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert match, f"no metric {name}"
        return float(match[1])

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """Until no request holds a block any more."""
        deadline = time.monotonic() + timeout
        while self.metric("glmserve_kv_blocks_used") or self.metric("glmserve_requests_running"):
            assert time.monotonic() < deadline, "blocks are still in use"
            time.sleep(0.02)

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line)
            if match := re.search(r"URL +(https?://[\w.:]+)/v1", line):
                self.url = match[1]
            if line.strip().startswith("curl"):
                self._announced.set()
        self._announced.set()


def children(pid: int) -> list[int]:
    """The worker, and the process that tries structures."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_worker(pid: int) -> bool:
    """Whether it is a worker, and alive: a process may end, and be gone, while it is looked at."""
    try:
        return b"glmserve.worker.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def worker_of(pid: int) -> int:
    (worker,) = workers_of(pid)
    return worker


@contextmanager
def without_worker(pid: int) -> Iterator[None]:
    """Kill a server's worker. The next one loads only after the context."""
    killed = worker_of(pid)
    os.kill(killed, signal.SIGKILL)
    while not (loading := [worker for worker in workers_of(pid) if worker != killed]):
        time.sleep(0.005)
    os.kill(loading[0], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(loading[0], signal.SIGCONT)


def workers_of(pid: int) -> list[int]:
    """Process ids of a server's workers, by rank."""
    return list(filter(is_worker, children(pid)))
