"""A runner on a thread of this process, for tests and offline use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import cast

from glmserve.config import ReportProgress
from glmserve.contract.adapter import AdapterRunner, AdapterSource
from glmserve.contract.step import (
    ReleasingRunner,
    Runner,
    RunnerInfo,
    StepInput,
    StepOutput,
    TokenMasks,
)
from glmserve.errors import AdapterError, EngineDeadError


class InlineExecutor:
    """Runs `build_runner` and all its steps on one thread."""

    missing_machine = ""
    lost_machine = False

    def __init__(self, build_runner: Callable[[ReportProgress], Runner]) -> None:
        self._build_runner = build_runner
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="runner")
        self._runner: Runner | None = None
        self._masks: SimpleQueue[list[bytes] | None] = SimpleQueue()

    async def start(self, progress: ReportProgress) -> RunnerInfo:
        loop = asyncio.get_running_loop()
        self._runner = await loop.run_in_executor(self._thread, self._build_runner, progress)
        return self._runner.info

    def submit(self, step: StepInput) -> asyncio.Future[StepOutput]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, self._execute, step)

    def send_masks(self, masks: TokenMasks) -> None:
        self._masks.put(masks.masks)

    async def load_adapter(self, source: AdapterSource) -> None:
        runner = self._adapter_runner
        try:
            install = await asyncio.to_thread(runner.read_adapter, source)
            await asyncio.get_running_loop().run_in_executor(self._thread, install)
        except AdapterError:
            raise
        except Exception as error:  # a hostile or damaged file can cause any error
            raise AdapterError(f"it cannot be loaded: {type(error).__name__}: {error}") from error

    def remove_adapter(self, adapter_id: int) -> None:
        self._thread.submit(self._adapter_runner.remove_adapter, adapter_id)

    def release_cache(self) -> None:
        if self._runner is not None:
            self._thread.submit(cast(ReleasingRunner, self._runner).release_cache)

    @property
    def is_lost(self) -> bool:
        return False  # a thread cannot be lost without its process

    async def wait_lost(self) -> str:
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def restart(self, progress: ReportProgress, excused: int = 0) -> None:
        raise EngineDeadError("a runner of this process cannot be replaced")

    async def close(self) -> None:
        self._masks.put(None)  # a step may be waiting
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    @property
    def _adapter_runner(self) -> AdapterRunner:
        if self._runner is None:
            raise EngineDeadError("the runner is closed")
        return cast(AdapterRunner, self._runner)

    def _execute(self, step: StepInput) -> StepOutput:
        if self._runner is None:
            raise EngineDeadError("the runner is closed")
        try:
            output = self._runner.execute(step, self._receive_masks)
            return output if isinstance(output, StepOutput) else output()
        except Exception as error:
            raise EngineDeadError(f"the model failed in step {step.step_id}: {error}") from error

    def _receive_masks(self) -> list[bytes]:
        masks = self._masks.get()
        if masks is None:
            raise EngineDeadError("the runner is closed")
        return masks
