"""Slots of a module whose weight is in Segments: the columns of A are cut as those of the weight.

B is the same for all segments, so what an adapter adds is summed in the same order as the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from glmserve.ops.adapters.slots import LoraSlots, LoraWeights, PackedLora, RowPlan


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

    def pack(self, weights: LoraWeights) -> PackedLora:
        """See LoraSlots. The first segment has the bias."""
        columns = weights.a.chunk(len(self.parts), dim=1)
        pairs = enumerate(zip(self.parts, columns, strict=True))
        return [
            part.pack(LoraWeights(a.contiguous(), weights.b, None if i else weights.bias))
            for i, (part, a) in pairs
        ]

    def store(self, slot: int, packed: PackedLora | None) -> None:
        """See LoraSlots."""
        assert packed is None or isinstance(packed, list)
        for i, part in enumerate(self.parts):
            part.store(slot, None if packed is None else packed[i])

    def add(self, x: Tensor, y: Tensor, plan: RowPlan) -> None:
        """See LoraSlots. The model adds to each segment's product instead."""
        raise TypeError("a weight in segments is multiplied segment by segment")
