"""Slots by our own CPU kernels, which group rows by adapter."""

from __future__ import annotations

from torch import Tensor

from glmserve.ops.adapters.slots import LoraShape, LoraWeights, RowPlan
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.lora import Rows, Slots


class NativeLora:
    """See LoraSlots. The result for a row does not depend on the other rows."""

    def __init__(self, library: Library, shape: LoraShape) -> None:
        self._slots = Slots(library, shape.slots, shape.rows, shape.columns, shape.dtype)

    @property
    def num_bytes(self) -> int:
        """See LoraSlots."""
        return self._slots.num_bytes

    def store(self, slot: int, weights: LoraWeights | None) -> None:
        """See LoraSlots."""
        if weights is None:
            self._slots.clear(slot)
        else:
            self._slots.store(slot, weights.a, weights.b, weights.bias)

    def add(self, x: Tensor, y: Tensor, plan: RowPlan) -> None:
        """See LoraSlots."""
        assert isinstance(plan, Rows)
        assert y.is_contiguous()
        self._slots.add(x.contiguous(), y, plan)
