"""The engine's view of a runner."""

from __future__ import annotations

import asyncio
from typing import Protocol

from glmserve.config import ReportProgress
from glmserve.contract.step import RunnerInfo, StepInput, StepOutput, TokenMasks


class Executor(Protocol):
    """Executes steps in the order of submission, somewhere."""

    async def start(self, progress: ReportProgress) -> RunnerInfo:
        """Build the runner.

        Raises:
            StartupError: it cannot be built; the message says why.
        """
        ...

    def submit(self, step: StepInput) -> asyncio.Future[StepOutput]:
        """Begin a step at once and return its future, so that the caller can work meanwhile.

        Another step may be submitted before this one is done.
        The future fails with WorkerLostError when the runner is lost, and with another
        EngineDeadError when it is lost for good.
        """
        ...

    def send_masks(self, masks: TokenMasks) -> None:
        """Deliver what the oldest step under way waits for, if it has constrained tokens."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether the runner is gone."""
        ...

    async def wait_lost(self) -> str:
        """Wait until the runner is gone, even if no step is under way.

        Returns what became of it, as in "the worker ...".
        """
        ...

    async def restart(self, progress: ReportProgress, excused: int = 0) -> None:
        """Build a new runner in place of a lost one: with the same limits, and an empty cache.

        Args:
            excused: of the last losses, this one included, those that do not count, as their
                reason is known and gone.

        Raises:
            WorkerLostError: the new one was lost while it was being built.
            EngineDeadError: there can be no new one, or there were too many; the message says why.
        """
        ...

    async def close(self) -> None:
        """Stop the runner. Safe to call at any time, more than once."""
        ...
