"""An executor whose workers are threads of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from glmserve.config import ReportProgress, SchedulerConfig, report_nothing
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.step import Runner, RunnerInfo, StepInput, StepOutput, TokenMasks
from glmserve.contract.wire import ReleaseCache, RemoveAdapter, encode_frame
from glmserve.engine import Engine, EngineObserver, TokenStream
from glmserve.errors import AdapterError, EngineDeadError
from glmserve.executor import Executor
from glmserve.executor.connection import WorkerConnection
from glmserve.worker.step_loop import execute_steps
from support.token_streams import next_tokens


class WorkerOnThread:
    """Its loop and its connection are real; what fails in it ends the thread.

    Args:
        runners: the first is started, each of the others takes the place of the one before.
    """

    missing_machine = ""
    lost_machine = False

    def __init__(self, *runners: Runner) -> None:
        self.error: BaseException | None = None
        """What ended the last thread."""
        self.may_restart = asyncio.Event()
        self.may_restart.set()
        self.excused: list[int] = []
        self._runners = list(runners)

    async def start(self, progress: ReportProgress) -> RunnerInfo:
        runner = self._runners.pop(0)
        ours, theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, args=(theirs, runner))
        self._thread.start()
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(
            lambda: WorkerConnection(progress), sock=ours
        )
        self._connection.ready.set_result(runner.info)
        return runner.info

    def submit(self, step: StepInput) -> asyncio.Future[StepOutput]:
        return self._connection.execute(encode_frame(step))

    def send_masks(self, masks: TokenMasks) -> None:
        self._connection.send(encode_frame(masks))

    async def load_adapter(self, source: AdapterSource) -> None:
        if error := await self._connection.load_adapter(source):
            raise AdapterError(error)

    def remove_adapter(self, adapter_id: int) -> None:
        self._connection.send(encode_frame(RemoveAdapter(adapter_id)))

    def release_cache(self) -> None:
        self._connection.send(encode_frame(ReleaseCache()))

    @property
    def is_lost(self) -> bool:
        return self._connection.lost.is_set()

    async def wait_lost(self) -> str:
        await self._connection.lost.wait()
        return f"has failed: {self.error}"

    async def restart(self, progress: ReportProgress, excused: int = 0) -> None:
        self.excused.append(excused)
        await asyncio.to_thread(self._thread.join)
        await self.may_restart.wait()
        if not self._runners:
            raise EngineDeadError("no runner is left")
        await self.start(progress)

    def kill(self) -> None:
        """Cut the connection."""
        self._connection.close()

    async def close(self) -> None:
        self._connection.close()
        await asyncio.to_thread(self._thread.join)

    def _serve(self, connection: socket.socket, runner: Runner) -> None:
        with connection:
            try:
                execute_steps(connection, runner)
            except Exception as error:
                self.error = error


@asynccontextmanager
async def serving(
    executor: Executor,
    config: SchedulerConfig | None = None,
    observer: EngineObserver | None = None,
) -> AsyncIterator[Engine]:
    config = config or SchedulerConfig()
    engine = Engine(executor, config, hash_key=b"key", observer=observer)
    try:
        await engine.start(report_nothing)
        yield engine
    finally:
        await engine.close()


async def drain(stream: TokenStream) -> list[int]:
    """All tokens of a request."""
    tokens: list[int] = []
    while new := (await next_tokens(stream)).token_ids:
        tokens += new
    return tokens
