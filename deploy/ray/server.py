"""One `glmserve serve`, as a process of its own, asked through a Unix socket."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
from yarl import URL

_PER_HOP = frozenset(("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"))
"""RFC 9110, section 7.6.1."""
_POLL = 0.2  # seconds


class Asked(NamedTuple):
    """A request. `target` is its path and query, as the client wrote them."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class Head(NamedTuple):
    """What comes before the body of an answer."""

    status: int
    headers: list[tuple[str, str]]


class Server:
    """A server process. `start` it first."""

    def __init__(self, options: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="glmserve-")
        socket = str(Path(self._folder.name) / "socket")
        launcher = str(Path(__file__).with_name("launch.py"))
        self._command = [sys.executable, launcher, "serve", "--uds", socket, *options]
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(socket, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def start(self) -> None:
        """Return when the model has produced a token.

        Raises:
            RuntimeError: the process has ended; its log says why.
        """
        self._process = await asyncio.create_subprocess_exec(*self._command)
        while not await self._says("/health/ready"):
            if self._process.returncode is not None:
                raise RuntimeError(f"glmserve ended with {self._process.returncode}")
            await asyncio.sleep(_POLL)

    async def ended(self) -> int:
        """The exit code, once the process has ended."""
        return await self._process.wait()

    async def check(self) -> None:
        """Raises:
        RuntimeError: it does not answer.
        """
        if not await self._says("/health/live"):
            raise RuntimeError("glmserve does not answer /health/live")

    async def ask(self, asked: Asked) -> AsyncGenerator[Head | bytes]:
        """The answer: its head, then the parts of its body as they come.

        Closing the iterator ends the connection, and so the request.
        """
        async with self._session.request(
            asked.method,
            URL(f"http://localhost{asked.target}", encoded=True),
            headers=[(name, value) for name, value in asked.headers if _is_passed_on(name)],
            data=asked.body or None,
            allow_redirects=False,
        ) as response:
            names = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in response.raw_headers]
            yield Head(response.status, [(k, v) for k, v in names if k.lower() not in _PER_HOP])
            async for part in response.content.iter_any():
                yield part

    async def stop(self) -> None:
        """Let it finish what it has begun, for its `--drain-timeout`."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        await self.ended()
        await self._session.close()
        self._folder.cleanup()

    async def _says(self, path: str) -> bool:
        try:
            async with self._session.get(f"http://localhost{path}") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


def _is_passed_on(name: str) -> bool:
    return name.lower() not in _PER_HOP and name.lower() != "content-length"
