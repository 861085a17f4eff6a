"""A started peer: its process, the loads it is sent, and the memory it holds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from peer_servers.setup import Launch
from process_memory import tree_memory
from served import Served, complete

_START_SECONDS = 600
_STOP_SECONDS = 20


class PeerError(Exception):
    """A peer did not start, or did not do what it was asked."""


class Running(ABC):
    """Its process and all it starts are one process group, which can be paused."""

    def __init__(self, launch: Launch, log: Path) -> None:
        self.launch, self.log = launch, log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                launch.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if launch.port is None else file,
                stderr=file,
                env={**os.environ, **launch.environment},
                start_new_session=True,
            )

    @abstractmethod
    def wait_until_ready(self) -> None:
        """Until it has made a token.

        Raises:
            PeerError: it did not start.
        """

    @abstractmethod
    def complete(self, prompts: list[list[int]], output_tokens: int) -> Served:
        """All prompts at once.

        Raises:
            PeerError: an answer failed, or has another length.
        """

    def memory(self) -> int:
        """Bytes that its processes hold; pages that several share are divided among them."""
        return tree_memory(self._process.pid).total

    def pause(self) -> None:
        """Stop its processes, so that threads that wait by spinning disturb nobody."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        for number in (signal.SIGCONT, signal.SIGTERM):
            self._signal(number)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        with self._process:  # closes its pipes
            self._signal(signal.SIGKILL)  # and what it has left behind

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _check_alive(self) -> None:
        if self._process.poll() is not None:
            raise PeerError(f"ended with {self._process.returncode}:\n{_tail(self.log)}")


class HttpServer(Running):
    """Answers /v1/completions at a port of this machine."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.launch.port}"

    def wait_until_ready(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            self._check_alive()
            if self._answers():
                return
            time.sleep(0.2)
        raise PeerError(f"not ready after {_START_SECONDS} s:\n{_tail(self.log)}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models", timeout=60) as response:
                model = json.load(response)["data"][0]["id"]
            body = {"model": model, "prompt": [100, 101], "max_tokens": 1, **self.launch.body}
            request = urllib.request.Request(
                f"{self.url}/v1/completions",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60):
                return True
        except (OSError, urllib.error.URLError, LookupError, ValueError):
            return False

    def complete(self, prompts: list[list[int]], output_tokens: int) -> Served:
        try:
            return complete(self.url, prompts, output_tokens, len(prompts), self.launch.body)
        except SystemExit as error:
            self._check_alive()
            raise PeerError(str(error)) from None


class EngineChild(Running):
    """Reads jobs as lines of JSON, and answers each with its times (programs/job_loop.py)."""

    def wait_until_ready(self) -> None:
        self._read()

    def complete(self, prompts: list[list[int]], output_tokens: int) -> Served:
        assert self._process.stdin is not None
        job = {"prompts": prompts, "output_tokens": output_tokens}
        with suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        answer = self._read()
        if answer["tokens"] != [output_tokens] * len(prompts):
            raise PeerError(f"answers of {set(answer['tokens'])} tokens")
        return Served(
            len(prompts) * output_tokens / answer["seconds"],
            answer["first_token_ms"],
            answer["inter_token_ms"],
        )

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._check_alive()
        answer: dict[str, Any] = json.loads(line)
        return answer


def start(launch: Launch, log: Path) -> Running:
    """Start it and wait until it is ready.

    Raises:
        PeerError: it did not start.
    """
    kind = EngineChild if launch.port is None else HttpServer
    try:
        running = kind(launch, log)
    except OSError as error:
        raise PeerError(f"{launch.command[0]}: {error}") from None
    try:
        running.wait_until_ready()
    except BaseException:
        running.close()
        raise
    return running


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:].strip()
