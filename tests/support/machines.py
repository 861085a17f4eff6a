"""Machines of a group that do not serve: processes that only TCP connects to the server."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import httpx

from support.crashing_worker import Stream
from support.server_process import ServerProcess


class MachineProcess:
    """`with MachineProcess(1, *options):` runs a member until the end of the block.

    Args:
        number: the member's; None: the environment has it.
    """

    def __init__(self, number: int | None, *options: str) -> None:
        own = () if number is None else ("--machine-rank", str(number))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "glmserve", "serve", *options, *own],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def __enter__(self) -> MachineProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.send(signal.SIGCONT)
        self._process.terminate()
        output, _ = self._process.communicate(timeout=20)
        assert b"Traceback" not in output, output.decode()
        assert self._process.returncode in (0, -signal.SIGKILL), output.decode()


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds, a minute at most."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def is_ready(server: ServerProcess) -> bool:
    return httpx.get(f"{server.url}/health/ready").status_code == 200


def reason(server: ServerProcess) -> str:
    """Why it is not ready; empty: it is."""
    return str(httpx.get(f"{server.url}/health/ready").json().get("reason", ""))


class Readers:
    """Clients that read streams of a server at once."""

    def __init__(self, server: ServerProcess, bodies: list[dict[str, Any]]) -> None:
        self.streams = [Stream(body) for body in bodies]
        self._client = httpx.AsyncClient(base_url=server.url, timeout=120)
        self._reading = [asyncio.create_task(stream.read(self._client)) for stream in self.streams]

    async def all_move(self) -> None:
        """Wait until every stream has gained something. Some go on."""
        assert await self.go_on(), "all have ended"

    async def go_on(self) -> bool:
        """Wait until every stream has gained something or is over; whether any goes on."""
        before = [(stream, stream.news) for stream in self.streams]
        await until(lambda: all(stream.has_moved(news) for stream, news in before))
        return any(stream.news for stream in self.streams)

    async def finish(self) -> list[Stream]:
        """Read all to their ends."""
        await asyncio.gather(*self._reading)
        await self._client.aclose()
        return self.streams
