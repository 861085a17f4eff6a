"""The median of the last few of some numbers."""

from __future__ import annotations

from collections import deque
from statistics import median


class RecentMedian:
    """The median is read several times in each step and changes once, so it is computed when it
    changes.

    Args:
        kept: numbers that count.
    """

    def __init__(self, kept: int) -> None:
        self.value = 0.0
        """0 without any number."""
        self._numbers: deque[float] = deque(maxlen=kept)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def is_full(self) -> bool:
        """Whether as many numbers count as may."""
        return len(self._numbers) == self._numbers.maxlen

    def add(self, number: float) -> None:
        self._numbers.append(number)
        self.value = median(self._numbers)

    def clear(self) -> None:
        """Forget all numbers."""
        self._numbers.clear()
        self.value = 0.0
