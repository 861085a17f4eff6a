"""Slots by a Triton kernel: tensors with fixed addresses, so graphs replay for any adapters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.ops.adapters.rows import RowGroups, group_rows
from glmserve.ops.adapters.slots import LoraShape, LoraWeights, PackedLora, RowPlan
from glmserve.ops.batch import Int64Array
from glmserve.ops.packed_arrays import ArraySpec, HostArrays, upload_together
from glmserve.ops.uploads import Uploads
from glmserve_kernels.add_lora.kernel import add_lora, count_parts, padded_rank
from glmserve_kernels.add_lora.row_plan import max_tiles, plan_tiles
from glmserve_kernels.tiles import Tiles


class TritonRows(NamedTuple):
    """A RowPlan on the device; see kernel.add_lora."""

    order: Tensor
    """int32 [n]"""
    tiles: Tensor
    """int32 [M, 3]"""


def plan_rows(slots: Int64Array, uploads: Uploads) -> TritonRows:
    """The plan of rows with these slots."""
    order, found, starts = group_rows(slots)
    if not len(order):
        none = torch.empty((0, 3), dtype=torch.int32, device=uploads.device)
        return TritonRows(none[:, 0], none)
    arrays = {"order": order.astype(np.int32), "tiles": plan_tiles(found, starts)}
    return TritonRows(**upload_together(arrays, uploads))


def static_specs(rows: int, adapters: int) -> dict[str, ArraySpec]:
    """Shapes of a plan for up to `rows` rows of up to `adapters` adapters."""
    tiles = max_tiles(rows, adapters)
    return {"order": ArraySpec((rows,), "int32"), "tiles": ArraySpec((tiles, 3), "int32")}


def fill_static(slots: Int64Array, host: HostArrays) -> None:
    """Write a plan to `host`, arrays of `static_specs`; the rest becomes padding."""
    groups: RowGroups = group_rows(slots)
    host["order"][: len(groups.order)] = groups.order
    host["order"][len(groups.order) :] = 0
    host["tiles"][...] = plan_tiles(groups.slots, groups.starts, len(host["tiles"]))


class _Packed(NamedTuple):
    rank: int
    a: Tensor
    """[most ranks, K]"""
    b: Tensor
    """[N, most ranks]"""
    bias: Tensor
    """[N]"""


class TritonLora:
    """See LoraSlots. The result for a row does not depend on the other rows.

    Args:
        tiles: of the kernel, see load_tiles.
    """

    def __init__(self, shape: LoraShape, tiles: Tiles) -> None:
        count, rows, columns, rank, dtype, device = shape
        rank = padded_rank(rank, tiles)
        self._tiles = tiles
        self._parts = count_parts(columns, tiles)
        self._a = torch.zeros((count, rank, columns), dtype=dtype, device=device)
        self._b = torch.zeros((count, rows, rank), dtype=dtype, device=device)
        self._bias = torch.zeros((count, rows), dtype=dtype, device=device)
        self._ranks = torch.full((count,), -1, dtype=torch.int32, device=device)

    @property
    def num_bytes(self) -> int:
        """See LoraSlots."""
        return sum(t.nbytes for t in (self._a, self._b, self._bias, self._ranks))

    def pack(self, weights: LoraWeights) -> PackedLora:
        """See LoraSlots. Padded with zeros, and pinned so that copies to a GPU do not wait."""
        rank, most = len(weights.a), self._a.shape[1]
        bias = weights.bias
        packed = _Packed(
            rank,
            F.pad(weights.a, (0, 0, 0, most - rank)),
            F.pad(weights.b, (0, most - rank)),
            weights.b.new_zeros(len(weights.b)) if bias is None else bias,
        )
        if self._a.device.type != "cuda":
            return packed
        return _Packed(rank, *(tensor.pin_memory() for tensor in packed[1:]))

    def store(self, slot: int, packed: PackedLora | None) -> None:
        """See LoraSlots. Copies are queued behind the steps that were launched before."""
        assert packed is None or isinstance(packed, _Packed)
        if packed is None:
            self._ranks[slot] = -1
            return
        self._a[slot].copy_(packed.a, non_blocking=True)
        self._b[slot].copy_(packed.b, non_blocking=True)
        self._bias[slot].copy_(packed.bias, non_blocking=True)
        self._ranks[slot] = packed.rank

    def add(self, x: Tensor, y: Tensor, plan: RowPlan) -> None:
        """See LoraSlots."""
        assert isinstance(plan, TritonRows)
        shape = (self._parts, len(plan.order), self._a.shape[1])
        add_lora(
            x=x,
            y=y,
            a=self._a,
            b=self._b,
            bias=self._bias,
            ranks=self._ranks,
            order=plan.order,
            row_tiles=plan.tiles,
            inner=torch.empty(shape, device=x.device),
            tiles=self._tiles,
        )
