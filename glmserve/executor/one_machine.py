"""A group whose ranks all run on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from glmserve.config import ReportProgress, RunnerConfig, SupervisionConfig
from glmserve.contract.shard import Shard
from glmserve.executor.machine import Machine
from glmserve.executor.worker_process import WorkerProcess
from glmserve.executor.worker_start import StartedWorker


class OneMachine:
    """The only machine of a group, and all its machines.

    Args:
        size: number of ranks.
        started: a worker for the first rank, which waits for its config; None: a new one.
    """

    missing = ""

    def __init__(self, size: int, started: StartedWorker | None = None) -> None:
        self.places = [Shard(number, size) for number in range(size)]
        self._started = started
        self._folder: TemporaryDirectory[str] | None = None

    async def start(self) -> None:
        """See Machines: nothing has to connect."""

    async def gather(self) -> Sequence[Machine]:
        """See Machines."""
        return [self]

    async def close(self) -> None:
        """See Machines: it goes with this process."""

    async def open_meeting(self) -> str:
        """See Machine: the ranks meet in a folder that only this user may read."""
        self._folder = TemporaryDirectory(prefix="glmserve-")
        return str(Path(self._folder.name) / "ranks")

    async def spawn(
        self, config: RunnerConfig, progress: ReportProgress, supervision: SupervisionConfig
    ) -> WorkerProcess:
        """See Machine."""
        started, self._started = self._started, None
        return await WorkerProcess.spawn(config, progress, supervision, started)

    def close_meeting(self) -> None:
        """See Machine."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
