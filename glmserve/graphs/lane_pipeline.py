"""Sends calls through the parts of a model, so that all devices work at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from glmserve.graphs.lane_call import LaneCall, PartResult
from glmserve.graphs.session import Array


class Part(Protocol):
    """Some layers on one device."""

    def run(self, call: LaneCall, stream: Array | None) -> PartResult:
        """Compute a call; `stream` is what the part before returned."""
        ...


class LanePipeline:
    """Parts, in the order of their layers. Each computes calls in the order in which they begin.

    Args:
        at_once: the parts are on several devices, and have a thread each, so that a part computes
            a call while the next part computes the one before it. False: one after the other, in
            the caller's thread.
    """

    def __init__(self, parts: Sequence[Part], *, at_once: bool) -> None:
        self._parts = parts
        names = [f"part-{number}" for number in range(len(parts))] if at_once else []
        self._threads = [ThreadPoolExecutor(1, name) for name in names]

    def begin(self, call: LaneCall) -> Future[PartResult]:
        """Begin a call; the future has the last part's result."""
        if not self._threads:
            done: Future[PartResult] = Future()
            done.set_result(self._run_in_turn(call))
            return done
        result = self._threads[0].submit(self._parts[0].run, call, None)
        for part, thread in zip(self._parts[1:], self._threads[1:], strict=True):
            result = thread.submit(_run_behind, part, call, result)
        return result

    def _run_in_turn(self, call: LaneCall) -> PartResult:
        result = self._parts[0].run(call, None)
        for part in self._parts[1:]:
            result = part.run(call, result.stream)
        return result

    def close(self) -> None:
        """Wait for all calls that have begun."""
        for thread in self._threads:
            thread.shutdown()


def _run_behind(part: Part, call: LaneCall, before: Future[PartResult]) -> PartResult:
    return part.run(call, before.result().stream)
