"""The server's side of sandbox.py."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import msgspec

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.sandbox import HEADER, TIME_LIMIT, CompileRequest, CompileResult, Setup

_PACKAGE_ROOT = Path(__file__).parents[3]


class SandboxProcess:
    """Starts the sandbox with the first request, keeps it, and replaces it when it dies."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def check(self, request: CompileRequest) -> None:
        """Compile a structure in the sandbox.

        Raises:
            InvalidRequestError: the structure is refused, or the process died of it.
        """
        async with self._lock:
            try:
                result = await self._send(request)
            except BaseException:  # a late answer would be read as the next request's
                await self._stop()
                raise
        if result is None:
            raise InvalidRequestError(
                f"the structure is too complex: compiling it takes over {TIME_LIMIT:.0f} seconds, "
                "or too deep a nesting"
            )
        if result.problem is not None:
            raise InvalidRequestError(result.problem)

    async def close(self) -> None:
        """End the process, if there is one."""
        async with self._lock:
            await self._stop()

    async def _send(self, request: CompileRequest) -> CompileResult | None:
        reader, writer = self._streams or await self._start()
        try:
            writer.write(_frame(request))
            await writer.drain()
            (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
            return msgspec.msgpack.decode(await reader.readexactly(size), type=CompileResult)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._stop()
            return None

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        with theirs:
            # See executor/worker_process.py for -P and the explicit path.
            code = (
                f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
                "from glmserve.text.structure.sandbox import main; "
                f"main({theirs.fileno()}, {os.getpid()})"
            )
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-c", code),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._streams = await asyncio.open_connection(sock=ours)
        self._streams[1].write(_frame(self._setup))
        return self._streams

    async def _stop(self) -> None:
        """Kill the process: it has no state, and its CPU timer may fire late on a busy machine."""
        streams, self._streams = self._streams, None
        process, self._process = self._process, None
        if streams is not None:
            streams[1].close()
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _frame(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    return HEADER.pack(len(body)) + body
