"""Counters by which the programs of a kernel find out which of them ends last."""

from __future__ import annotations

import torch
from torch import Tensor


class Arrivals:
    """All launches count with the same numbers: each leaves 0 behind, and they follow one another.

    Numbers that were handed out are kept for ever, because a graph may count with them.
    """

    def __init__(self) -> None:
        self._made: list[Tensor] = []

    def at_least(self, count: int, device: torch.device) -> Tensor:
        """int32, all 0, so many or more."""
        if not self._made or len(self._made[-1]) < count:
            self._made.append(torch.zeros(count, dtype=torch.int32, device=device))
        return self._made[-1]
