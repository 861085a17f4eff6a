"""The interface between the engine and a runner."""

from __future__ import annotations

import asyncio
from typing import Protocol

from glmserve.config import ReportProgress
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.step import RunnerInfo, StepInput, StepOutput, TokenMasks


class Executor(Protocol):
    """Starts a runner and executes steps in the order of submission."""

    async def start(self, progress: ReportProgress) -> RunnerInfo:
        """Build the runner.

        Args:
            progress: called while the runner loads.

        Raises:
            StartupError: it cannot be built; the message says why.
        """
        ...

    def submit(self, step: StepInput) -> asyncio.Future[StepOutput]:
        """Start a step and return a future of its output.

        Another step may be submitted before this one is done. The future fails with WorkerLostError
        if the runner is lost and can be replaced, and with EngineDeadError if it cannot.
        """
        ...

    def send_masks(self, masks: TokenMasks) -> None:
        """Send the token masks of the oldest step in flight. It must have constrained tokens."""
        ...

    async def load_adapter(self, source: AdapterSource) -> None:
        """Load an adapter beside the steps. Steps that are submitted afterwards may use its id.

        At most `RunnerLimits.max_adapters` are loaded or being loaded at a time. A lost runner
        loses its adapters.

        Raises:
            AdapterError: it cannot be read, or does not fit the model. It is not loaded.
            WorkerLostError: the runner is lost and can be replaced.
            EngineDeadError: the runner is lost and cannot be replaced.
        """
        ...

    def remove_adapter(self, adapter_id: int) -> None:
        """Free an adapter after the steps that were submitted so far; no later one uses it."""
        ...

    def release_cache(self) -> None:
        """Give the KV cache's memory back after the steps that were submitted so far.

        Its contents are lost. Only if `RunnerLimits.releases_cache`.
        """
        ...

    @property
    def is_lost(self) -> bool:
        """Whether the runner is gone."""
        ...

    @property
    def missing_machine(self) -> str:
        """Which machine the runner waits for, and since when, as a sentence; empty: none."""
        ...

    @property
    def lost_machine(self) -> bool:
        """Whether the last runner, when `wait_lost` has returned, was lost with a machine."""
        ...

    async def wait_lost(self) -> str:
        """Wait until the runner is gone, even if no step is in flight.

        Returns:
            How it ended, as a predicate for "the worker".
        """
        ...

    async def restart(self, progress: ReportProgress, excused: int = 0) -> None:
        """Replace a lost runner by a new one, with the same limits and an empty KV cache.

        Args:
            progress: called while the runner loads.
            excused: number of the most recent losses, including this one, that do not count
                towards the limit because their cause has been removed.

        Raises:
            WorkerLostError: the new runner was lost while it was being built.
            EngineDeadError: no new runner can be built, or there were too many restarts. The
                message says why.
        """
        ...

    async def close(self) -> None:
        """Stop the runner. Safe to call at any time, more than once."""
        ...
