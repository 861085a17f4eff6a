"""Slots of a module whose weight is in Segments: the columns of A are cut as those of the weight.

B is the same for all segments, so what an adapter adds is summed in the same order as the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from glmserve.ops.adapters.slots import LoraSlots, LoraWeights, RowPlan


class SegmentedLora:
    """See LoraSlots.

    Args:
        parts: slots of each segment, in the order of its columns.
    """

    def __init__(self, parts: Sequence[LoraSlots]) -> None:
        self.parts = parts

    @property
    def num_bytes(self) -> int:
        """See LoraSlots."""
        return sum(part.num_bytes for part in self.parts)

    def store(self, slot: int, weights: LoraWeights | None) -> None:
        """See LoraSlots. The first segment has the bias."""
        if weights is None:
            for part in self.parts:
                part.store(slot, None)
            return
        columns = weights.a.chunk(len(self.parts), dim=1)
        for i, (part, a) in enumerate(zip(self.parts, columns, strict=True)):
            bias = None if i else weights.bias
            part.store(slot, LoraWeights(a.contiguous(), weights.b, bias))

    def add(self, x: Tensor, y: Tensor, plan: RowPlan) -> None:
        """See LoraSlots. The model adds to each segment's product instead."""
        raise TypeError("a weight in segments is multiplied segment by segment")
