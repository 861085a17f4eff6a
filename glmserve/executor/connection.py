"""The executor's end of the socketpair to a worker process."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

from glmserve.config import ReportProgress
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.step import RunnerInfo, StepOutput
from glmserve.contract.wire import (
    HEADER_SIZE,
    AdapterLoaded,
    Failed,
    LoadAdapter,
    Loading,
    Ready,
    body_size,
    decode_worker_message,
    encode_frame,
)
from glmserve.errors import OptionError, StartupError, WorkerLostError


class WorkerConnection(asyncio.Protocol):
    """Turns the byte stream of a worker into futures: one for Ready, then one per step and one per
    adapter.

    All of them fail with WorkerLostError when the stream ends.

    Args:
        progress: called with each report of the loading worker.
    """

    def __init__(self, progress: ReportProgress) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[RunnerInfo] = loop.create_future()
        self.lost = asyncio.Event()
        self.num_steps_done = 0
        self.num_reports = 0
        """Number of progress reports received while loading."""
        self._progress = progress
        self._outputs: deque[asyncio.Future[StepOutput]] = deque()  # of the steps in flight
        self._adapters: dict[int, asyncio.Future[str]] = {}  # that are being loaded, by id
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a step is in flight."""
        return bool(self._outputs) and not self.lost.is_set()

    def send(self, frame: bytes) -> None:
        """Send a frame, unless the connection is closed."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def execute(self, frame: bytes) -> asyncio.Future[StepOutput]:
        """Send the frame of a step.

        Returns:
            A future of its output. It fails with WorkerLostError if the worker is lost.
        """
        output: asyncio.Future[StepOutput] = asyncio.get_running_loop().create_future()
        if self.lost.is_set():
            output.set_exception(WorkerLostError())
        else:
            self._outputs.append(output)
            self.send(frame)
        return output

    def load_adapter(self, source: AdapterSource) -> asyncio.Future[str]:
        """Send an adapter to load.

        Returns:
            A future of the reason why it is refused, empty if it is loaded. It fails with
            WorkerLostError if the worker is lost.
        """
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self.lost.is_set():
            answer.set_exception(WorkerLostError())
        else:
            self._adapters[source.id] = answer
            self.send(encode_frame(LoadAdapter(source)))
        return answer

    def close(self) -> None:
        """Close this end, which ends the worker."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it

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
            self.ready.set_exception(WorkerLostError())
        waiting: list[asyncio.Future[Any]] = [*self._outputs, *self._adapters.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(WorkerLostError())

    def _message_received(self, body: bytes) -> None:
        match decode_worker_message(body):
            case StepOutput() as output:
                self.num_steps_done += 1
                oldest = self._outputs.popleft()
                if not oldest.done():
                    oldest.set_result(output)
            case AdapterLoaded(adapter_id, error):
                answer = self._adapters.pop(adapter_id)
                if not answer.done():
                    answer.set_result(error)
            case Loading(progress):
                self.num_reports += 1
                self._progress(progress)
            case Ready(info):
                self.ready.set_result(info)
            case Failed(message, exit_code):
                kind = OptionError if exit_code == OptionError.exit_code else StartupError
                self.ready.set_exception(kind(message))
