"""Writes a recording of requests and steps, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from array import array
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import msgspec

from glmserve import __version__
from glmserve.cache import BlockPool
from glmserve.config import ReportProgress, RunnerConfig
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.step import RunnerInfo, StepInput, StepOutput, TokenMasks
from glmserve.contract.wire import HEADER_SIZE, LoadAdapter, RemoveAdapter, encode_frame
from glmserve.errors import OptionError
from glmserve.executor import Executor
from glmserve.process.paths import escaped
from glmserve.request import FINISH_REASONS, Request
from glmserve.trace.events import (
    MAGIC,
    Arrival,
    Beginning,
    End,
    Evictions,
    Loss,
    RunningChecksum,
    StepTime,
)

logger = logging.getLogger(__name__)


class TraceWriter:
    """Writes the file. If writing fails, it logs an error and the server goes on without recording.

    Args:
        path: a new file. It contains prompts, so only its owner may read it.
        config: the configuration of the runner.

    Raises:
        OptionError: the file exists, or cannot be created.
    """

    def __init__(self, path: Path, config: RunnerConfig) -> None:
        self._path = path
        # The format is msgpack, which takes UTF-8 alone. `replay` accepts another path.
        # Adapters are recorded when they are loaded.
        self._config = msgspec.structs.replace(
            config, checkpoint=escaped(config.checkpoint), adapters=()
        )
        self._start = 0.0
        self._evicted = array("i")
        self._frames: SimpleQueue[bytes | None] = SimpleQueue()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OptionError(f"--record {path}: {reason}") from None
        self._thread = Thread(
            target=self._write, args=[descriptor], name="trace writer", daemon=True
        )
        self._thread.start()

    def begin(self, info: RunnerInfo, pool: BlockPool) -> None:
        """Record that the runner is up. Nothing is recorded before."""
        self._start = time.monotonic()
        pool.on_eviction.append(self._evicted.append)
        self.add(Beginning(__version__, time.time(), self._config, info))

    def arrived(self, requests: Iterable[Request]) -> None:
        """Record new requests."""
        for request in requests:
            self.add(Arrival.of(request, self._now))

    def ended(self, request: Request) -> None:
        """Record the end of a request."""
        reason = FINISH_REASONS[request.status]
        self.add(End(self._now, request.id, reason, request.num_output_tokens))

    def lost(self) -> None:
        """Record the loss of the runner."""
        self.add(Loss(self._now))

    def submitted(self, step: StepInput) -> float:
        """Record a step, and what was evicted for it.

        Returns:
            The present time, for `done`.
        """
        if self._evicted:
            self.add(Evictions(self._evicted.tobytes()))
            del self._evicted[:]
        self.add(step)
        return self._now

    def done(self, output: StepOutput, submitted: float) -> None:
        """Record a step's output."""
        self.add(output)
        self.add(StepTime(output.step_id, submitted, self._now))

    def add(self, event: msgspec.Struct) -> None:
        """Record an event. Steps before `begin` only test the runner and are ignored."""
        if self._start:
            self._frames.put(encode_frame(event))

    def close(self) -> None:
        """Wait until everything is written. If `begin` was never called, remove the file."""
        self._frames.put(None)
        self._thread.join()
        if not self._start:
            self._path.unlink(missing_ok=True)

    @property
    def _now(self) -> float:
        return round(time.monotonic() - self._start, 6)

    def _write(self, descriptor: int) -> None:
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(MAGIC)
                checksum = RunningChecksum()
                while (frame := self._frames.get()) is not None:
                    for part in (frame[:HEADER_SIZE], frame[HEADER_SIZE:]):
                        file.write(part + checksum.after(part))
                    if self._frames.empty():
                        file.flush()  # so that a killed server leaves a complete recording
        except OSError as error:
            logger.error("--record %s: %s; the recording ends here", self._path, error.strerror)
            while self._frames.get() is not None:
                pass


class TracingExecutor:
    """Wraps an executor and records its steps and adapters."""

    def __init__(self, executor: Executor, writer: TraceWriter) -> None:
        self._executor = executor
        self._writer = writer

    async def start(self, progress: ReportProgress) -> RunnerInfo:
        return await self._executor.start(progress)

    def submit(self, step: StepInput) -> asyncio.Future[StepOutput]:
        submitted = self._writer.submitted(step)
        output = self._executor.submit(step)
        output.add_done_callback(partial(self._write_output, submitted))
        return output

    def send_masks(self, masks: TokenMasks) -> None:
        self._writer.add(masks)
        self._executor.send_masks(masks)

    async def load_adapter(self, source: AdapterSource) -> None:
        await self._executor.load_adapter(source)
        self._writer.add(LoadAdapter(source))

    def remove_adapter(self, adapter_id: int) -> None:
        self._writer.add(RemoveAdapter(adapter_id))
        self._executor.remove_adapter(adapter_id)

    def release_cache(self) -> None:
        self._executor.release_cache()

    @property
    def is_lost(self) -> bool:
        return self._executor.is_lost

    @property
    def missing_machine(self) -> str:
        return self._executor.missing_machine

    @property
    def lost_machine(self) -> bool:
        return self._executor.lost_machine

    async def wait_lost(self) -> str:
        return await self._executor.wait_lost()

    async def restart(self, progress: ReportProgress, excused: int = 0) -> None:
        self._writer.lost()
        await self._executor.restart(progress, excused)

    async def close(self) -> None:
        await self._executor.close()
        self._writer.close()

    def _write_output(self, submitted: float, output: asyncio.Future[StepOutput]) -> None:
        if not output.cancelled() and output.exception() is None:
            self._writer.done(output.result(), submitted)
