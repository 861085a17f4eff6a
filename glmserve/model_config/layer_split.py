"""Cuts a model's layers into consecutive parts, one for each of several devices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PartCosts:
    """Bytes that a device needs for its part of the model."""

    num_layers: int
    layer: int
    """Weights of a layer."""
    layer_cache: int
    """A layer's K and V."""
    first: int
    """The embedding, on the first device."""
    last: int
    """The output layer, on the last device."""

    def part(self, layers: range) -> int:
        """Bytes of consecutive layers, with what else belongs to them."""
        ends = self.first * (layers.start == 0) + self.last * (layers.stop == self.num_layers)
        return len(layers) * (self.layer + self.layer_cache) + ends


def split_equally(num_layers: int, count: int) -> list[range]:
    """The same number of layers each; the first ones get what is left over."""
    each, more = divmod(num_layers, count)
    return ranges([each + (i < more) for i in range(count)])


def split_by_memory(costs: PartCosts, count: int) -> list[range]:
    """The parts of which the largest is smallest, by dynamic programming over the last cut."""
    n = costs.num_layers
    best = [[math.inf] * (n + 1) for _ in range(count + 1)]
    cut = [[0] * (n + 1) for _ in range(count + 1)]
    best[0][0] = 0
    for parts in range(1, count + 1):
        for stop in range(parts, n + 1):
            for start in range(parts - 1, stop):
                largest = max(best[parts - 1][start], costs.part(range(start, stop)))
                if largest < best[parts][stop]:
                    best[parts][stop], cut[parts][stop] = largest, start
    found: list[range] = []
    stop = n
    for parts in range(count, 0, -1):
        found.insert(0, range(cut[parts][stop], stop))
        stop = cut[parts][stop]
    return found


def ranges(sizes: Sequence[int]) -> list[range]:
    """Consecutive ranges of these sizes, from 0 on."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]
