"""A runner in a worker process of its own, at the other end of a socketpair."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from pathlib import Path
from typing import cast

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.errors import EngineDeadError, OptionError, StartupError
from glmserve.step import RunnerInfo, StepInput, StepOutput, TokenMasks
from glmserve.wire import (
    HEADER_SIZE,
    Failed,
    Loading,
    Ready,
    body_size,
    decode_worker_message,
    encode_frame,
)

_PACKAGE_ROOT = Path(__file__).parents[2]
_STOP_TIMEOUT = 5.0  # seconds a worker gets to end by itself


class ProcessExecutor:
    """Spawns a worker with the given configuration and talks to it in frames."""

    def __init__(self, config: RunnerConfig) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._connection: WorkerConnection | None = None

    async def start(self, progress: ReportProgress) -> RunnerInfo:
        ours, theirs = socket.socketpair()
        with theirs:
            # -P and the explicit path keep the current folder off the worker's module search
            # path: a file named torch.py lying there must not be run.
            code = (
                f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
                f"from glmserve.worker import main; main({theirs.fileno()})"
            )
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-c", code),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(
            lambda: WorkerConnection(progress), sock=ours
        )
        self._connection.send(encode_frame(self._config))
        return await self._connection.ready

    def submit(self, step: StepInput) -> asyncio.Future[StepOutput]:
        if self._connection is None:
            raise EngineDeadError("the worker was never started")
        return self._connection.execute(step)

    def send_masks(self, masks: TokenMasks) -> None:
        if self._connection is not None:
            self._connection.send(encode_frame(masks))

    async def wait_lost(self) -> None:
        if self._connection is not None:
            await self._connection.lost.wait()

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is None:
            return
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class WorkerConnection(asyncio.Protocol):
    """Turns the byte stream of a worker into futures: one for Ready, then one per step."""

    def __init__(self, progress: ReportProgress) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[RunnerInfo] = loop.create_future()
        self.lost = asyncio.Event()
        self._progress = progress
        self._outputs: deque[asyncio.Future[StepOutput]] = deque()  # of the steps under way
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def execute(self, step: StepInput) -> asyncio.Future[StepOutput]:
        """Send a step; its output resolves the returned future."""
        output: asyncio.Future[StepOutput] = asyncio.get_running_loop().create_future()
        if self.lost.is_set():
            output.set_exception(_worker_lost())
        else:
            self._outputs.append(output)
            self.send(encode_frame(step))
        return output

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= HEADER_SIZE:
            end = HEADER_SIZE + body_size(self._buffer)
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[HEADER_SIZE:end])
            del self._buffer[:end]
            self._message_received(body)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()
        if not self.ready.done():
            self.ready.set_exception(
                StartupError("the worker process died while loading the model; see its output")
            )
        for waiting in self._outputs:
            if not waiting.done():
                waiting.set_exception(_worker_lost())

    def _message_received(self, body: bytes) -> None:
        match decode_worker_message(body):
            case StepOutput() as output:
                oldest = self._outputs.popleft()
                if not oldest.done():
                    oldest.set_result(output)
            case Loading(progress):
                self._progress(progress)
            case Ready(info):
                self.ready.set_result(info)
            case Failed(message, exit_code):
                kind = OptionError if exit_code == OptionError.exit_code else StartupError
                self.ready.set_exception(kind(message))


def _worker_lost() -> EngineDeadError:
    return EngineDeadError("the worker process that runs the model has died")
