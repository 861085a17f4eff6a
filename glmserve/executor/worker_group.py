"""The worker processes that compute one model together; usually it is one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from glmserve.config import ReportProgress, RunnerConfig, SupervisionConfig
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.shard import Group, Shard, Stage
from glmserve.contract.step import RankInfo, RunnerInfo, StepInput, StepOutput
from glmserve.contract.wire import RANK_LOST, RemoveAdapter, encode_frame
from glmserve.errors import AdapterError, StartupError, WorkerLostError
from glmserve.executor.group_progress import GroupProgress
from glmserve.executor.hung_rank import hung_rank
from glmserve.executor.machine import Machine, Worker


class Loss(NamedTuple):
    """How a group ended."""

    reason: str
    """A predicate for "the worker"."""
    rank: int | None
    """The rank that ended first; None: that is not known."""
    is_of_machine: bool = False
    """Whether a machine was lost, with its ranks."""


class WorkerGroup:
    """One worker process for each rank. All get the same frames; one rank answers, and the others
    acknowledge. If one is gone, the others are killed at once.

    Args:
        workers: by rank.
        answering: the rank that answers.
        width: ranks of a stage.
        machines: that the workers run on.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        answering: int,
        width: int,
        machines: Sequence[Machine],
    ) -> None:
        self._workers = workers
        self._answering = answering
        self._width = width
        self._machines = machines
        self._end = asyncio.create_task(self._watch())

    @classmethod
    async def spawn(
        cls,
        config: RunnerConfig,
        machines: Sequence[Machine],
        progress: ReportProgress,
        supervision: SupervisionConfig,
    ) -> WorkerGroup:
        """Start a process for each rank of `config`, at the machines' places in order.

        Raises:
            OSError: a process cannot be started.
        """
        places = [(machine, place) for machine in machines for place in machine.places]
        reports = GroupProgress(len(places), progress)
        workers: list[Worker] = []
        try:
            rendezvous = await machines[0].open_meeting() if len(places) > 1 else None
            for rank, (machine, place) in enumerate(places):
                own = _config_of(config, rank, place, rendezvous)
                report = reports.of_rank(rank)
                workers.append(await machine.spawn(own, report, supervision))
        except BaseException:
            await asyncio.gather(*(worker.close() for worker in workers))
            machines[0].close_meeting()
            raise
        width = config.tensor_parallel_size
        return cls(workers, len(workers) - width, width, machines)

    @property
    def pids(self) -> list[int | None]:
        """Process ids by rank; None on other machines."""
        return [worker.pid for worker in self._workers]

    @property
    def is_lost(self) -> bool:
        """Whether a rank is gone."""
        return any(worker.connection.lost.is_set() for worker in self._workers)

    @property
    def lost_machine(self) -> bool:
        """Whether a machine is gone."""
        return any(worker.lost_machine for worker in self._workers)

    @property
    def steps_done(self) -> list[int]:
        """Number of steps that each rank has done."""
        return [worker.connection.num_steps_done for worker in self._workers]

    async def ready(self) -> RunnerInfo:
        """Wait until all ranks have loaded.

        Raises:
            StartupError: a rank could not load.
            WorkerLostError: a rank was lost.
        """
        # A cancelled wait must not cancel `ready` itself: WorkerProcess.close reads its state.
        waiting = (asyncio.shield(worker.connection.ready) for worker in self._workers)
        found = await asyncio.gather(*waiting, return_exceptions=True)
        for kind in (StartupError, BaseException):
            for error in found:
                if isinstance(error, kind):
                    raise error
        hosts = [worker.host for worker in self._workers]
        return _together([info for info in found if isinstance(info, RunnerInfo)], hosts)

    def execute(self, step: StepInput) -> asyncio.Future[StepOutput]:
        """Send a step to all ranks.

        Returns:
            A future of the output. It fails with WorkerLostError if a rank is lost.
        """
        if self.is_lost:
            failed: asyncio.Future[StepOutput] = asyncio.get_running_loop().create_future()
            failed.set_exception(WorkerLostError())
            return failed
        frame = encode_frame(step)
        outputs = [worker.connection.execute(frame) for worker in self._workers]
        output = outputs.pop(self._answering)
        for acknowledgement in outputs:
            acknowledgement.add_done_callback(_take_error)
        return output

    async def load_adapter(self, source: AdapterSource) -> None:
        """Have all ranks load an adapter. If one refuses it, all free it.

        Raises:
            AdapterError: a rank refuses it.
            WorkerLostError: a rank was lost.
        """
        loading = [worker.connection.load_adapter(source) for worker in self._workers]
        answers = await asyncio.gather(*loading, return_exceptions=True)
        for lost in answers:
            if isinstance(lost, BaseException):
                raise lost
        refusals = [answer for answer in answers if isinstance(answer, str) and answer]
        if refusals:
            self.remove_adapter(source.id)
            raise AdapterError(refusals[0])

    def remove_adapter(self, adapter_id: int) -> None:
        """Have all ranks free an adapter after the steps so far."""
        self.send(encode_frame(RemoveAdapter(adapter_id)))

    def send(self, frame: bytes) -> None:
        """Send a frame to all ranks."""
        for worker in self._workers:
            worker.connection.send(frame)

    async def wait_lost(self) -> Loss:
        """Wait until all processes are gone, because one was."""
        return await asyncio.shield(self._end)

    async def close(self) -> None:
        """End all processes. Safe to call more than once."""
        await asyncio.gather(*(worker.close() for worker in self._workers))
        await self._end

    async def _watch(self) -> Loss:
        losses = [asyncio.create_task(w.connection.lost.wait()) for w in self._workers]
        try:
            await asyncio.wait(losses, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for loss in losses:
                loss.cancel()
        # Others would wait for the missing rank for ever, or report that it is missing.
        ended = [worker.connection.lost.is_set() for worker in self._workers]
        for worker, has_ended in zip(self._workers, ended, strict=True):
            if not has_ended:
                worker.kill()
        reasons = [await worker.wait_lost() for worker in self._workers]
        self._machines[0].close_meeting()
        for worker in self._workers:
            if worker.lost_machine:
                return Loss(f"lost its {worker.lost_machine}", None, is_of_machine=True)
        if len(reasons) == 1:
            return Loss(reasons[0], 0)
        for worker, reason in zip(self._workers, reasons, strict=True):
            if worker.was_hung:  # or it waited for a rank that hung
                return self._hang(reason)
        rank = self._first_ended(ended)
        return Loss(f"lost its rank {rank}, which {reasons[rank]}", rank)

    def _hang(self, reason: str) -> Loss:
        """How the group ended because a step or loading took too long."""
        loaded = all(worker.connection.ready.done() for worker in self._workers)
        rank = hung_rank(self.steps_done, self._width) if loaded else None
        return Loss(reason if rank is None else f"lost its rank {rank}, which {reason}", rank)

    def _first_ended(self, ended: Sequence[bool]) -> int:
        """The rank that ended by itself, not because it missed another."""
        ranks = range(len(self._workers))
        causes = [r for r in ranks if self._workers[r].exit_code != RANK_LOST]
        return next((r for r in causes if ended[r]), causes[0] if causes else 0)


def _config_of(
    config: RunnerConfig, rank: int, place: Shard, rendezvous: str | None
) -> RunnerConfig:
    if rendezvous is None:
        return config
    stage, shard = divmod(rank, config.tensor_parallel_size)
    group = Group(
        Shard(shard, config.tensor_parallel_size),
        rendezvous,
        Stage(stage, config.pipeline_parallel_size),
        place,
    )
    return msgspec.structs.replace(config, group=group)


def _together(infos: Sequence[RunnerInfo], hosts: Sequence[str]) -> RunnerInfo:
    """The facts about a whole group.

    Args:
        infos: by rank.
        hosts: names of the ranks' machines; empty: there is one.

    Raises:
        StartupError: the ranks can do different things.
    """
    first = infos[0]
    if len(infos) == 1:
        return first
    for rank, info in enumerate(infos):
        if (info.limits, info.dtype) != (first.limits, first.dtype):
            raise StartupError(
                f"the ranks can do different things: rank {rank} {info.limits} in {info.dtype}, "
                f"rank 0 {first.limits} in {first.dtype}"
            )
    return msgspec.structs.replace(
        first,
        device=f"{len(infos)} ranks of {first.device}",
        weight_bytes=sum(info.weight_bytes for info in infos),
        kv_cache_bytes=sum(info.kv_cache_bytes for info in infos),
        layers=None,
        ranks=tuple(
            RankInfo(info.device, info.weight_bytes, info.kv_cache_bytes, info.layers, host)
            for info, host in zip(infos, hosts, strict=True)
        ),
    )


def _take_error(acknowledgement: asyncio.Future[StepOutput]) -> None:
    """An error is reported by the future of the rank that answers."""
    if not acknowledgement.cancelled():
        acknowledgement.exception()
