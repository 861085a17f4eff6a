"""Matrix products with quantised weights on a GPU."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.ops.arrivals import Arrivals
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve_kernels.dequantize_weight.kernel import dequantize_weight
from glmserve_kernels.quantized_matmul.kernel import (
    count_splits,
    count_tiles,
    quantized_matmul,
)
from glmserve_kernels.quantized_matmul.packing import pack_int4
from glmserve_kernels.tiles import load_tiles

_COLUMN_MULTIPLE = 32
"""K and the group size are multiples of it: the kernels load so many columns at a time."""
DEQUANTIZE_FROM = 256
"""From this many rows on a product is limited by arithmetic: dequantising first and multiplying by
the library's kernel is faster."""


class PackedCodes(NamedTuple):
    """A QuantizedWeight [N, K] in the layout of the kernels."""

    codes: Tensor
    """int8 [N, K], or int16 [N, K/4] of 4 bits."""
    scales: Tensor
    """[N, G], contiguous along N."""
    columns: int
    """K"""


class QuantizedKernels:
    """Multiplies with PackedCodes.

    Args:
        chip: selects the tile sizes, see load_tiles.
    """

    def __init__(self, chip: str) -> None:
        self._matmul_tiles = load_tiles("quantized_matmul", chip)
        self._dequantize_tiles = load_tiles("dequantize_weight", chip)
        self._arrivals = Arrivals()

    def pack(self, weight: QuantizedWeight) -> PackedCodes | None:
        """The weight in the layout of the kernels; None: they do not support its shape."""
        columns = weight.codes.shape[1] * 8 // weight.bits
        if columns % _COLUMN_MULTIPLE or weight.group_size % _COLUMN_MULTIPLE:
            return None
        codes = weight.codes if weight.bits == 8 else pack_int4(weight.unpacked())
        packed = PackedCodes(codes, weight.scales.t().contiguous().t(), columns)
        for rows in (16, 64, DEQUANTIZE_FROM - 1):  # the most of each shape class
            self._arrivals_for(rows, packed)
        return packed

    def _arrivals_for(self, rows: int, weight: PackedCodes) -> Tensor:
        """Counters for a product of so many rows."""
        count = count_tiles(rows, weight.codes, self._matmul_tiles)
        return self._arrivals.at_least(count, weight.codes.device)

    def linear(self, x: Tensor, weight: PackedCodes, bias: Tensor | None) -> Tensor:
        """x @ weight^T + bias: [T, K] to [T, N]."""
        rows, outputs = len(x), len(weight.codes)
        if rows >= DEQUANTIZE_FROM:
            return F.linear(x, self.dequantized(weight, x.dtype), bias)
        out = torch.empty((rows, outputs), dtype=x.dtype, device=x.device)
        splits = count_splits(rows, weight.codes, weight.columns, self._matmul_tiles)
        partial = torch.empty((splits, rows, outputs), device=x.device) if splits > 1 else None
        quantized_matmul(
            x=x,
            weight=weight.codes,
            scales=weight.scales,
            bias=bias,
            out=out,
            partial=partial,
            arrivals=None if partial is None else self._arrivals_for(rows, weight),
            tiles=self._matmul_tiles,
        )
        return out

    def dequantized(self, weight: PackedCodes, dtype: torch.dtype) -> Tensor:
        """The weight [N, K], computed in float32 and rounded once to `dtype`."""
        shape = (len(weight.codes), weight.columns)
        out = torch.empty(shape, dtype=dtype, device=weight.codes.device)
        dequantize_weight(
            weight=weight.codes, scales=weight.scales, out=out, tiles=self._dequantize_tiles
        )
        return out
