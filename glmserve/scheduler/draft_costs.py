"""What drafts cost: how much longer a step with them takes than its decodes alone."""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict, deque
from statistics import median
from typing import NamedTuple

_KEPT = 64
"""Steps with drafts that count,"""
_KEPT_PLAIN = 9
"""and steps without."""
_SIMILAR = 1.25
"""Steps are compared if the number of their decodes differs by at most this factor."""
_STEPS_UNTIL_PROBE = 64
"""Steps with drafts after which one has none, to learn the time of decodes anew."""


class _Step(NamedTuple):
    decodes: int
    drafts: int
    seconds: float
    """Of a step with drafts: beyond its decodes alone."""


class DraftCosts:
    """Learns from the times of steps without prompts. It has no clock.

    Drafts of one request cost little on a device that waits for its weights, and almost as much as
    further requests on one that is busy computing. The first few cost more than their number tells
    where kernels treat few rows in a special way. So costs are medians by number of drafts, with
    straight lines between them.
    """

    def __init__(self) -> None:
        self._plain: deque[_Step] = deque(maxlen=_KEPT_PLAIN)
        self._drafted: deque[_Step] = deque(maxlen=_KEPT)
        self._since_plain = 0

    def record(self, decodes: int, drafts: int, seconds: float) -> None:
        """Learn from a step of decodes, with or without drafts."""
        if not drafts:
            self._plain.append(_Step(decodes, 0, seconds))
            self._since_plain = 0
            return
        self._since_plain += 1
        base = self.decode_seconds(decodes)
        if base is not None:
            self._drafted.append(_Step(decodes, drafts, max(0.0, seconds - base)))

    @property
    def needs_plain_step(self) -> bool:
        """Whether the next step should have no drafts, to learn the time of decodes anew."""
        return self._since_plain >= _STEPS_UNTIL_PROBE

    def decode_seconds(self, decodes: int) -> float | None:
        """Seconds of a step of so many decodes; None: not known."""
        similar = [step.seconds for step in self._plain if _is_similar(step.decodes, decodes)]
        return median(similar[-3:]) if similar else None

    def draft_seconds(self, decodes: int) -> DraftSeconds:
        """The costs of drafts beside so many decodes."""
        groups: dict[int, list[_Step]] = defaultdict(list)
        for step in self._drafted:
            if _is_similar(step.decodes, decodes):
                groups[step.drafts.bit_length()].append(step)
        points = [
            (median(step.drafts for step in group), median(step.seconds for step in group))
            for _, group in sorted(groups.items())
        ]
        return DraftSeconds(points)


class DraftSeconds:
    """The seconds of drafts as a function of their number, linear between measured points.

    Args:
        points: numbers of drafts and their seconds, by number. The function begins at zero.
    """

    def __init__(self, points: list[tuple[float, float]]) -> None:
        self.is_known = bool(points)
        self._points = [(0.0, 0.0), *points]

    def of(self, drafts: int) -> float:
        """Seconds of so many drafts. Beyond the last point, each costs as much as those before."""
        points = self._points
        if drafts >= points[-1][0]:
            number, seconds = points[-1]
            return seconds * drafts / number if number else 0.0
        right = bisect(points, (drafts, float("inf")))
        (x0, y0), (x1, y1) = points[right - 1 : right + 1]
        return y0 + (y1 - y0) * (drafts - x0) / (x1 - x0)


def _is_similar(one: int, other: int) -> bool:
    return max(one, other) <= _SIMILAR * min(one, other)
