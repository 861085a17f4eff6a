"""Slots by our own CPU kernels, which group rows by adapter."""

from __future__ import annotations

from torch import Tensor

from glmserve.ops.adapters.slots import LoraShape, LoraWeights, PackedLora, RowPlan
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.lora import PackedAdapter, Rows, Slots, pack


class NativeLora:
    """See LoraSlots. The result for a row does not depend on the other rows."""

    def __init__(self, library: Library, shape: LoraShape) -> None:
        self._slots = Slots(library, shape.slots, shape.rows, shape.columns, shape.dtype)

    @property
    def num_bytes(self) -> int:
        """See LoraSlots."""
        return self._slots.num_bytes

    def pack(self, weights: LoraWeights) -> PackedLora:
        """See LoraSlots."""
        return pack(*weights)

    def store(self, slot: int, packed: PackedLora | None) -> None:
        """See LoraSlots."""
        assert packed is None or isinstance(packed, PackedAdapter)
        if packed is None:
            self._slots.clear(slot)
        else:
            self._slots.store(slot, packed)

    def add(self, x: Tensor, y: Tensor, plan: RowPlan) -> None:
        """See LoraSlots."""
        assert isinstance(plan, Rows)
        assert y.is_contiguous()
        self._slots.add(x.contiguous(), y, plan)
