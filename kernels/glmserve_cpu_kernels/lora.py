"""What adapters add to the results of a linear module; src/lora.cpp has the arithmetic.

The result for a row does not depend on the other rows.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from glmserve_cpu_kernels.library import TYPES, CLoraAdapter, CLoraRows, Library
from glmserve_cpu_kernels.linear import PANEL

Int64Array = NDArray[np.int64]


class Rows:
    """The rows of a step that have adapters, which all modules share. Arrays are int64.

    Args:
        order: [n] indices of the rows, those of a slot side by side.
        slots: [G] the slots.
        starts: [G + 1] index in `order` of each slot's first row; then n.
    """

    def __init__(self, order: Int64Array, slots: Int64Array, starts: Int64Array) -> None:
        given = (order, slots, starts)
        self._arrays = [np.ascontiguousarray(array, dtype=np.int64) for array in given]
        self._struct = CLoraRows(*(array.ctypes.data for array in self._arrays), len(slots))
        self.address = ctypes.addressof(self._struct)


class PackedAdapter(NamedTuple):
    """An adapter of one module in the kernels' layout, from `pack`."""

    a: Tensor | None
    """[R, K]; None: there is only a bias."""
    b: Tensor | None
    """[panels, R, 32]"""
    bias: Tensor | None
    """[N]"""


def pack(a: Tensor, b: Tensor, bias: Tensor | None) -> PackedAdapter:
    """Pack a [R, K], b [N, R] and a bias [N]; R may be 0."""
    if not len(a):
        return PackedAdapter(None, None, bias)
    return PackedAdapter(a.contiguous(), _panels(b), bias)


class Slots:
    """The adapters of one module [N, K].

    Args:
        count: slots.
        dtype: float32 or bfloat16, of activations and of what is stored.
    """

    def __init__(
        self, library: Library, count: int, rows: int, columns: int, dtype: torch.dtype
    ) -> None:
        self._add = library.functions.glm_add_lora
        self._shape = (columns, rows)
        self._type = TYPES[dtype]
        self._held: dict[int, PackedAdapter] = {}
        self._structs = (CLoraAdapter * count)()
        self._address = ctypes.addressof(self._structs)

    @property
    def num_bytes(self) -> int:
        """Bytes of all adapters."""
        return sum(t.nbytes for held in self._held.values() for t in held if t is not None)

    def store(self, slot: int, adapter: PackedAdapter) -> None:
        """Put an adapter into a slot."""
        self._held[slot] = adapter
        pointers = (None if t is None else t.data_ptr() for t in adapter)
        self._structs[slot] = CLoraAdapter(*pointers, 0 if adapter.a is None else len(adapter.a))

    def clear(self, slot: int) -> None:
        """Empty a slot."""
        self._structs[slot] = CLoraAdapter()
        self._held.pop(slot, None)

    def add(self, x: Tensor, y: Tensor, rows: Rows) -> None:
        """y [T, N] += B (A x) + bias in place, x [T, K], both contiguous."""
        self._add(
            *(self._address, rows.address, self._type),
            *(x.data_ptr(), *self._shape, y.data_ptr()),
        )


def _panels(b: Tensor) -> Tensor:
    """b [N, R] as [panels, R, 32], N padded with zeros."""
    padded = F.pad(b, (0, 0, 0, -len(b) % PANEL))
    return padded.view(-1, PANEL, b.shape[1]).transpose(1, 2).contiguous()
