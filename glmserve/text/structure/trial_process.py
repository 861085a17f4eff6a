"""The server's side of trial.py."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import msgspec

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.trial import HEADER, TIME_LIMIT, Setup, Trial, Verdict

_PACKAGE_ROOT = Path(__file__).parents[3]


class TrialProcess:
    """Started with the first trial, kept for the next ones, replaced when it has died."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def check(self, trial: Trial) -> None:
        """Compile a structure in the process.

        Raises:
            InvalidRequestError: it is refused, or the process died of it.
        """
        async with self._turn:
            try:
                verdict = await self._ask(trial)
            except BaseException:  # a late answer would be taken for the next one's
                await self._stop()
                raise
        if verdict is None:
            raise InvalidRequestError(
                f"the structure is too complex: compiling it takes over {TIME_LIMIT:.0f} seconds, "
                "or too deep a nesting"
            )
        if verdict.problem is not None:
            raise InvalidRequestError(verdict.problem)

    async def close(self) -> None:
        """End the process, if there is one."""
        async with self._turn:
            await self._stop()

    async def _ask(self, trial: Trial) -> Verdict | None:
        reader, writer = self._streams or await self._start()
        try:
            writer.write(_frame(trial))
            await writer.drain()
            (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
            return msgspec.msgpack.decode(await reader.readexactly(size), type=Verdict)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._stop()
            return None

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        with theirs:
            # As executor/worker_process.py starts its worker, and for the same reason.
            code = (
                f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
                "from glmserve.text.structure.trial import main; "
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
        """End it at once: it has nothing to lose, and its timer counts slowly on a busy machine."""
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
