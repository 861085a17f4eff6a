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


class Stage(msgspec.Struct, frozen=True):
    """One of `size` runs of consecutive layers (pipeline parallelism)."""

    rank: int = 0
    """0 to size-1, in the order of the layers."""
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it has the embedding."""
        return self.rank == 0

    @property
    def is_last(self) -> bool:
        """Whether it has the output layer."""
        return self.rank == self.size - 1


ALL_LAYERS = Stage()
"""The stage of a model that is not cut between layers."""


class Group(msgspec.Struct, frozen=True):
    """A worker's place in a group of workers that compute one model together: a rank.

    Each stage is cut into the same number of shards.
    """

    shard: Shard
    rendezvous: str
    """Where the ranks find each other. On one machine: the path of a file in a folder that only
    this user may read. On several: "tcp://HOST:PORT", where the first rank listens."""
    stage: Stage = ALL_LAYERS
    local: Shard = WHOLE
    """This rank's number among those of its machine, which share its devices or cores."""
    listener: int | None = None
    """Descriptor of the first rank's listening socket at HOST:PORT; None for the other ranks."""

    @property
    def rank(self) -> int:
        """The worker's number in the group: stage by stage."""
        return self.stage.rank * self.shard.size + self.shard.rank

    @property
    def size(self) -> int:
        """Number of workers."""
        return self.stage.size * self.shard.size

    @property
    def meets_at(self) -> tuple[str, int] | None:
        """Host and port of the rendezvous; None: the ranks are on one machine."""
        scheme, _, address = self.rendezvous.partition("://")
        host, _, port = address.rpartition(":")
        return (host, int(port)) if scheme == "tcp" and host else None

    @property
    def answers(self) -> bool:
        """Whether this rank reports the outputs of steps: the first one that has logits."""
        return self.stage.is_last and self.shard.rank == 0
