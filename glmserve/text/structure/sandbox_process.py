"""The server's side of sandbox.py."""

from __future__ import annotations

import asyncio
import socket

import msgspec

from glmserve.errors import InvalidRequestError
from glmserve.process.limited import HEADER, command, framed
from glmserve.text.structure import sandbox
from glmserve.text.structure.sandbox import TIME_LIMIT, CompileRequest, CompileResult, Setup


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
        try:
            reader, writer = self._streams or await self._start()
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
            self._process = await asyncio.create_subprocess_exec(
                *command(sandbox.__name__, theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._streams = await asyncio.open_connection(sock=ours)
        self._streams[1].write(_frame(self._setup))
        await self._streams[0].readexactly(HEADER.size)  # it is ready
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
    return framed(msgspec.msgpack.encode(message))
