"""Slots by the products of any Ops, one adapter after the other: the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from glmserve.ops.adapters.rows import TensorGroups
from glmserve.ops.adapters.slots import LoraShape, LoraWeights, PackedLora, RowPlan
from glmserve.ops.linear.static import LinearWeight

Linear = Callable[[Tensor, object, Tensor | None], Tensor]
"""`Ops.linear`"""


class _Packed(NamedTuple):
    num_bytes: int
    product: tuple[object, object] | None
    """A and B; None: there is only a bias."""
    bias: Tensor | None


class PlainLora:
    """See LoraSlots. The result for a row depends on other rows as that of `linear` does.

    Args:
        pack: `Ops.pack_linear`.
        linear: multiplies with what `pack` returns.
    """

    def __init__(
        self, shape: LoraShape, pack: Callable[[LinearWeight], object], linear: Linear
    ) -> None:
        self._device = shape.device
        self._pack = pack
        self._linear = linear
        self._slots: dict[int, _Packed] = {}

    @property
    def num_bytes(self) -> int:
        """See LoraSlots."""
        return sum(held.num_bytes for held in self._slots.values())

    def pack(self, weights: LoraWeights) -> PackedLora:
        """See LoraSlots."""
        bias = None if weights.bias is None else weights.bias.to(self._device)
        product = None
        if len(weights.a):
            a, b = weights.a.to(self._device), weights.b.to(self._device)
            product = (self._pack(a), self._pack(b))
        num_bytes = sum(w.nbytes for w in weights if w is not None)
        return _Packed(num_bytes, product, bias)

    def store(self, slot: int, packed: PackedLora | None) -> None:
        """See LoraSlots."""
        assert packed is None or isinstance(packed, _Packed)
        if packed is None:
            self._slots.pop(slot, None)
        else:
            self._slots[slot] = packed

    def add(self, x: Tensor, y: Tensor, plan: RowPlan) -> None:
        """See LoraSlots."""
        assert isinstance(plan, TensorGroups)
        for slot, rows in zip(plan.slots, plan.rows, strict=True):
            adapter = self._slots.get(slot)
            if adapter is None:
                continue
            if adapter.product is not None:
                a, b = adapter.product
                added = self._linear(self._linear(x[rows], a, None), b, adapter.bias)
                y.index_add_(0, rows, added)
            elif adapter.bias is not None:
                y[rows] += adapter.bias
