"""The interface of the slots of a linear module."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

RowPlan = object
"""Which rows of a step have which slot, in the layout of one Ops: the result of its
`plan_adapters`, read by its LoraSlots only."""


PackedLora = object
"""An adapter of one module in the layout of its LoraSlots: the result of its `pack`."""


class LoraShape(NamedTuple):
    """A linear module with slots."""

    slots: int
    """How many there are."""
    rows: int
    """N: outputs of the module."""
    columns: int
    """K: inputs of the module."""
    rank: int
    """Largest rank that an adapter may have in the module."""
    dtype: torch.dtype
    """Of activations, and of what is stored."""
    device: torch.device


class LoraWeights(NamedTuple):
    """What an adapter adds to a module's results: B (A x) + bias. On the host, contiguous."""

    a: Tensor
    """[R, K]; R may be 0."""
    b: Tensor
    """[N, R], with the adapter's scale in it."""
    bias: Tensor | None
    """[N]"""


class LoraSlots(Protocol):
    """The adapters of one linear module."""

    @property
    def num_bytes(self) -> int:
        """Bytes that it takes on the device now."""
        ...

    def pack(self, weights: LoraWeights) -> PackedLora:
        """Bring an adapter into the layout of the slots, on any thread."""
        ...

    def store(self, slot: int, packed: PackedLora | None) -> None:
        """Put an adapter into a slot; None empties it. It takes little time, and no step that uses
        the slot is under way."""
        ...

    def add(self, x: Tensor, y: Tensor, plan: RowPlan) -> None:
        """Add to each row what its slot holds.

        Args:
            x: [T, K], the module's input.
            y: [T, N], the module's result; changed in place.
            plan: of these T rows.
        """
        ...
