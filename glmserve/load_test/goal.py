"""Service level objectives: what a request must keep to count as good."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glmserve.load_test.result import Result

_METRICS: dict[str, Callable[[Result], float | None]] = {
    "ttft": lambda result: result.ttft,
    "tpot": lambda result: result.tpot,
    "duration": lambda result: result.duration,
}


@dataclass(frozen=True)
class Goal:
    """A request keeps it if this time of it is no longer than `seconds`.

    A request without the time keeps it: an answer of one token has no time per further token.
    """

    metric: str
    seconds: float

    def is_kept(self, result: Result) -> bool:
        """Whether a request without an error keeps the goal."""
        value = _METRICS[self.metric](result)
        return value is None or value <= self.seconds


def goal(text: str) -> Goal:
    """`ttft:500`: the time to first token in milliseconds; also tpot (each further token) and
    duration.

    Raises:
        argparse.ArgumentTypeError: it is none of these.
    """
    metric, _, limit = text.partition(":")
    try:
        seconds = float(limit) / 1000
    except ValueError:
        seconds = 0.0
    if metric not in _METRICS or not 0 < seconds < float("inf"):
        names = ", ".join(_METRICS)
        raise argparse.ArgumentTypeError(f"{text!r}: write like ttft:500, with one of {names}")
    return Goal(metric, seconds)


def num_good(results: Sequence[Result], goals: Sequence[Goal]) -> int:
    """Requests without an error that keep all goals."""
    return sum(
        result.error is None and all(own.is_kept(result) for own in goals) for result in results
    )
