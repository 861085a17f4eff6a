"""The leader's own ranks in a group of several machines."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from glmserve.config import ReportProgress, RunnerConfig, SupervisionConfig
from glmserve.contract.shard import Shard
from glmserve.executor.worker_process import WorkerProcess
from glmserve.executor.worker_start import StartedWorker
from glmserve.machines.meeting import listen, rendezvous


class LeaderMachine:
    """This machine. See Machine.

    Args:
        places: of its ranks.
        host: by which the other machines reach this one.
        on_loopback: whether all members are on this machine.
    """

    def __init__(self, places: Sequence[Shard], host: str, *, on_loopback: bool) -> None:
        self.places = places
        self._host = host
        self._on_loopback = on_loopback
        self._meeting: socket.socket | None = None

    async def open_meeting(self) -> str:
        """See Machine."""
        self._meeting = listen(0, on_loopback=self._on_loopback)
        return rendezvous(self._host, self._meeting.getsockname()[1])

    async def spawn(
        self, config: RunnerConfig, progress: ReportProgress, supervision: SupervisionConfig
    ) -> WorkerProcess:
        """See Machine."""
        is_first = config.group is not None and config.group.rank == 0
        meeting = self._meeting if is_first else None
        worker = await WorkerProcess.spawn(config, progress, supervision, StartedWorker(meeting))
        self.close_meeting()  # the first worker has the socket
        worker.host = socket.gethostname()
        return worker

    def close_meeting(self) -> None:
        """See Machine."""
        if self._meeting is not None:
            self._meeting.close()
            self._meeting = None
