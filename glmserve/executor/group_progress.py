"""Adds up how far the ranks of a group have loaded: one bar for all of them."""

from __future__ import annotations

from functools import partial
from typing import get_args

from glmserve.config import LoadPhase, LoadProgress, ReportProgress

_PHASES: tuple[LoadPhase, ...] = get_args(LoadPhase)


class GroupProgress:
    """Reports the phase of the slowest rank, and the sums of all ranks in it.

    Args:
        size: number of ranks.
        report: called with the sums.
    """

    def __init__(self, size: int, report: ReportProgress) -> None:
        self._size = size
        self._report = report
        self._latest: list[dict[LoadPhase, LoadProgress]] = [{} for _ in range(size)]

    def of_rank(self, rank: int) -> ReportProgress:
        """The function that takes the reports of a rank."""
        return partial(self._update, rank)

    def _update(self, rank: int, progress: LoadProgress) -> None:
        self._latest[rank][progress.phase] = progress
        phase = min((_phase_of(seen) for seen in self._latest), key=_PHASES.index)
        known = [seen[phase] for seen in self._latest if phase in seen]
        if known:
            done = sum(progress.done for progress in known)
            total = sum(progress.total for progress in known)
            # A rank that has not reported yet will have about as much to do as others.
            self._report(LoadProgress(phase, done, total * self._size // len(known)))


def _phase_of(seen: dict[LoadPhase, LoadProgress]) -> LoadPhase:
    """The phase of a rank: the last one that it has reported."""
    return max(seen, key=_PHASES.index, default=_PHASES[0])
