"""The interface between a group of workers and the machines that they run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from glmserve.config import ReportProgress, RunnerConfig, SupervisionConfig
from glmserve.contract.shard import Shard
from glmserve.executor.connection import WorkerConnection


class Worker(Protocol):
    """One worker process, on this machine or on another one."""

    connection: WorkerConnection

    @property
    def host(self) -> str:
        """Name of its machine; empty: the group has one."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id on its machine; None: that is another one."""
        ...

    @property
    def exit_code(self) -> int | None:
        """As in `subprocess`; None: the process has not ended, or its machine is lost."""
        ...

    @property
    def was_hung(self) -> bool:
        """Whether it was killed because of a time-out."""
        ...

    @property
    def lost_machine(self) -> str:
        """Says which machine is lost, and how, behind "lost its"; empty: its machine is there."""
        ...

    def kill(self) -> None:
        """End the process at once."""
        ...

    async def wait_lost(self) -> str:
        """Wait until the process is gone. Returns how it ended, as a predicate for "the worker"."""
        ...

    async def close(self) -> None:
        """End the process. Safe to call more than once."""
        ...


class Machine(Protocol):
    """Starts workers on one machine."""

    @property
    def places(self) -> Sequence[Shard]:
        """For each rank of the group that is there: its number among the ranks on that machine,
        which share its devices or cores."""
        ...

    async def open_meeting(self) -> str:
        """Let the ranks of a new group meet at the first one, which is on this machine.

        Returns:
            `Group.rendezvous`.

        Raises:
            OSError: it cannot be opened.
        """
        ...

    async def spawn(
        self, config: RunnerConfig, progress: ReportProgress, supervision: SupervisionConfig
    ) -> Worker:
        """Start a worker. The group's first one gets the meeting.

        Raises:
            OSError: it cannot be started.
        """
        ...

    def close_meeting(self) -> None:
        """The ranks of the group are gone."""
        ...


class Machines(Protocol):
    """The machines of a group."""

    @property
    def missing(self) -> str:
        """Which machine is not there, and since when, as a sentence; empty: all are there."""
        ...

    async def start(self) -> None:
        """Let machines connect."""
        ...

    async def gather(self) -> Sequence[Machine]:
        """Wait without limit until all are there. Their places are the group's ranks in order."""
        ...

    async def close(self) -> None:
        """Let all go. Safe to call more than once."""
        ...
