"""What the ranks of a group do together: sums and joins over a stage, hand-overs to the next one.

Each rank of a stage calls the same ones in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.contract.shard import WHOLE, Shard


class Collectives(Protocol):
    """What the ranks do together. A result is the same on every rank, bit for bit.

    Raises:
        RankLostError: from every method; another rank is gone.
    """

    shard: Shard
    """This rank's. Sums and joins are over the shards of its stage."""

    def sum(self, x: Tensor) -> Tensor:
        """The sum of all ranks' x, in its shape and dtype; x may be overwritten."""
        ...

    def ordered_sum(self, x: Tensor) -> Tensor:
        """`sum` in an order that is a binary tree over the ranks: see `pairwise_sum`."""
        ...

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        """All ranks' x side by side.

        Args:
            x: [n, widths[rank]]
            widths: columns of each rank.

        Returns:
            [n, sum(widths)]
        """
        ...

    def send(self, x: Tensor) -> None:
        """Send x to the same shard of the next stage. It does not wait until that receives it."""
        ...

    def receive(self, x: Tensor) -> Tensor:
        """Write what the same shard of the stage before sent next to x, contiguous, and return it.
        Shape and dtype are the sender's."""
        ...

    def smallest(self, number: int) -> int:
        """The smallest of the numbers of all ranks of all stages. The host waits for it."""
        ...


class Alone:
    """One rank: nothing to do."""

    shard = WHOLE

    def sum(self, x: Tensor) -> Tensor:
        return x

    def ordered_sum(self, x: Tensor) -> Tensor:
        return x

    def join(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return x

    def send(self, x: Tensor) -> None:
        raise RuntimeError("there is no next stage")

    def receive(self, x: Tensor) -> Tensor:
        raise RuntimeError("there is no stage before")

    def smallest(self, number: int) -> int:
        return number


ALONE = Alone()


def joined(
    x: Tensor, widths: Sequence[int], gather: Callable[[Tensor], Sequence[Tensor]]
) -> Tensor:
    """See Collectives.join."""
    padded = F.pad(x, (0, max(widths) - x.shape[1]))
    parts = zip(gather(padded), widths, strict=True)
    return torch.cat([part[:, :width] for part, width in parts], dim=1)
