"""The engine's view of a runner."""

from __future__ import annotations

import asyncio
from typing import Protocol

from glmserve.config import ReportProgress
from glmserve.step import RunnerInfo, StepInput, StepOutput, TokenMasks


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
        The future fails with EngineDeadError when the runner is lost.
        """
        ...

    def send_masks(self, masks: TokenMasks) -> None:
        """Deliver what the oldest step under way waits for, if it has constrained tokens."""
        ...

    async def wait_lost(self) -> None:
        """Return once the runner is gone for good, even if no step is under way."""
        ...

    async def close(self) -> None:
        """Stop the runner. Safe to call at any time, more than once."""
        ...
