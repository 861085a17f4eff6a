"""A rank's part of a model that is cut over several devices. Plain data, no torch."""

from __future__ import annotations

import msgspec


class Shard(msgspec.Struct, frozen=True):
    """One of `size` equal parts of every layer (tensor parallelism)."""

    rank: int = 0
    """0 to size-1."""
    size: int = 1

    def part(self, count: int) -> range:
        """This rank's part of `count` things in order. The parts of all ranks are disjoint, cover
        everything, and differ by one thing at most."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)


SIZES = (1, 2, 4, 8)
"""Numbers of ranks. Sums over ranks are binary trees."""

WHOLE = Shard()
"""The shard of a model on one device."""


class Group(msgspec.Struct, frozen=True):
    """A worker's place in a group of workers that compute one model together: a rank."""

    shard: Shard
    rendezvous: str
    """Path of a file in a folder that only this user may read; the ranks find each other by it."""
