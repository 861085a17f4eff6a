"""A runner in a worker process, or in a group of them, which is replaced when it dies."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from glmserve.config import ReportProgress, RunnerConfig, SupervisionConfig
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.step import RunnerInfo, RunnerLimits, StepInput, StepOutput, TokenMasks
from glmserve.contract.wire import ReleaseCache, encode_frame
from glmserve.errors import EngineDeadError, StartupError, WorkerLostError
from glmserve.executor.machine import Machines
from glmserve.executor.one_machine import OneMachine
from glmserve.executor.rank_state import RankState
from glmserve.executor.restart_policy import WINDOW, RestartPolicy
from glmserve.executor.worker_group import Loss, WorkerGroup

logger = logging.getLogger(__name__)

_SMOKE_TEST_STEPS = 1
"""Steps by which the engine tests a new worker; further ones show that the worker was useful."""


class ProcessExecutor:
    """Starts a worker for each rank, sends them steps, and replaces all when one dies.

    Args:
        config: sent to each worker, with its rank.
        supervision: time-outs, and the limit of restarts.
        machines: that the ranks run on; None: this one.
    """

    def __init__(
        self,
        config: RunnerConfig,
        supervision: SupervisionConfig,
        machines: Machines | None = None,
    ) -> None:
        self._config = config
        self._machines = machines or OneMachine(config.num_ranks)
        self._supervision = supervision
        self._policy = RestartPolicy(supervision.max_restarts)
        self._limits: RunnerLimits | None = None
        self._group: WorkerGroup | None = None
        self._losses = [0] * config.num_ranks

    async def start(self, progress: ReportProgress) -> RunnerInfo:
        await self._machines.start()
        info = await self._start_first(progress)
        self._limits = info.limits
        # A later worker may find more or less free memory, and must have the same limits.
        self._config = msgspec.structs.replace(
            self._config,
            kv_cache_tokens=info.limits.token_capacity,
            kv_cache_memory=None,
            gpu_memory_utilization=None,
        )
        return info

    @property
    def is_lost(self) -> bool:
        return self._group is None or self._group.is_lost

    @property
    def missing_machine(self) -> str:
        return self._machines.missing

    @property
    def lost_machine(self) -> bool:
        return self._group is not None and self._group.lost_machine

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, of rank 0 in a group; None: it was never started."""
        return self._group.pids[0] if self._group else None

    def rank_states(self) -> list[RankState]:
        """What became of each rank so far."""
        steps = self._group.steps_done if self._group else [0] * self._config.num_ranks
        is_up = not self.is_lost
        return [RankState(is_up, *counts) for counts in zip(steps, self._losses, strict=True)]

    def submit(self, step: StepInput) -> asyncio.Future[StepOutput]:
        if self._group is None:
            raise EngineDeadError("the worker was never started")
        return self._group.execute(step)

    def send_masks(self, masks: TokenMasks) -> None:
        if self._group is not None:
            self._group.send(encode_frame(masks))

    async def load_adapter(self, source: AdapterSource) -> None:
        if self._group is None:
            raise EngineDeadError("the worker was never started")
        await self._group.load_adapter(source)

    def remove_adapter(self, adapter_id: int) -> None:
        if self._group is not None:
            self._group.remove_adapter(adapter_id)

    def release_cache(self) -> None:
        if self._group is not None:
            self._group.send(encode_frame(ReleaseCache()))

    async def wait_lost(self) -> str:
        return (await self._lost_group()).reason

    async def restart(self, progress: ReportProgress, excused: int = 0) -> None:
        loss = await self._count_loss()
        reason = loss.reason
        # A group waits for a lost machine to come back, however often.
        await asyncio.sleep(self._next_pause(reason, max(excused, int(loss.is_of_machine))))
        try:
            info = await self._spawn(progress)
        except StartupError as error:
            raise EngineDeadError(
                f"the worker {reason}, and could not be started again: {error.message}"
            ) from error
        if info.limits != self._limits:
            raise EngineDeadError(
                f"the worker {reason}, and the next one can do other things: "
                f"{info.limits} instead of {self._limits}"
            )

    async def close(self) -> None:
        if self._group is not None:
            await self._group.close()
        await self._machines.close()

    async def _start_first(self, progress: ReportProgress) -> RunnerInfo:
        """Start the first group, anew whenever a machine is lost meanwhile."""
        while True:
            try:
                return await self._spawn(progress)
            except WorkerLostError:
                loss = await self._lost_group()
            if not loss.is_of_machine:
                raise StartupError(
                    f"the worker process {loss.reason} while it loaded the model; "
                    "`glmserve doctor` with the same options looks for the cause"
                )
            logger.warning("the worker %s; waiting for it", loss.reason)

    async def _spawn(self, progress: ReportProgress) -> RunnerInfo:
        machines = await self._machines.gather()
        self._group = await WorkerGroup.spawn(self._config, machines, progress, self._supervision)
        return await self._group.ready()

    async def _count_loss(self) -> Loss:
        """Count it for the rank that ended first. Returns how the group ended."""
        loss = await self._lost_group()
        if loss.rank is not None:
            self._losses[loss.rank] += 1
        return loss

    async def _lost_group(self) -> Loss:
        """Wait until the group is gone."""
        if self._group is None:
            return Loss("was never started", None)
        return await self._group.wait_lost()

    def _next_pause(self, reason: str, excused: int) -> float:
        """Seconds to wait before the next start.

        Raises:
            EngineDeadError: there were too many restarts.
        """
        steps_done = min(self._group.steps_done) if self._group else 0
        pause = self._policy.next_pause(
            asyncio.get_running_loop().time(),
            was_useful=steps_done > _SMOKE_TEST_STEPS,
            excused=excused,
        )
        if pause is None:
            raise EngineDeadError(
                f"the worker process that runs the model has died: it {reason}. It is replaced "
                f"--max-worker-restarts {self._supervision.max_restarts} times within "
                f"{WINDOW / 60:.0f} minutes at most"
            )
        logger.warning("the worker %s; starting another in %.0f s", reason, pause)
        return pause
