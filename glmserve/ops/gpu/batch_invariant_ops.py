"""TritonOps with batch-invariant results: --deterministic on a GPU.

Norms, rotation and activations are computed row by row as they are. Matrix products have a kernel
with one tile shape and one order of summation for every step.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from glmserve.ops.arrivals import Arrivals
from glmserve.ops.attention.backend import AttentionBackend
from glmserve.ops.attention.batch_invariant_paged import BatchInvariantPagedPlan
from glmserve.ops.attention.paged_cache import PagedCache
from glmserve.ops.gpu.triton_ops import TritonOps
from glmserve.ops.linear.packed import PackedWeight
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.triton import PackedCodes
from glmserve_kernels.batch_invariant_matmul.kernel import (
    batch_invariant_matmul,
    count_chunks,
    count_tiles,
)
from glmserve_kernels.tiles import load_tiles

_FEW_ROWS = 16
"""Up to this many rows the sum over K is split among programs. That does not change its bits."""


class BatchInvariantTritonOps(TritonOps[BatchInvariantPagedPlan]):
    """TritonOps with matrix products that do not depend on the number of rows."""

    dequantizes_from = 0

    def __init__(
        self, attention: AttentionBackend[PagedCache, BatchInvariantPagedPlan], chip: str
    ) -> None:
        super().__init__(attention, chip)
        self._matmul_tiles = load_tiles("batch_invariant_matmul", chip)
        self._arrivals = Arrivals()

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        plain = self._plain(weight, x.dtype)
        rows, outputs = len(x), len(plain)
        out = torch.empty((rows, outputs), dtype=x.dtype, device=x.device)
        partial, arrivals = None, None
        if rows <= _FEW_ROWS:
            tiles = self._matmul_tiles
            chunks = count_chunks(x.shape[1], tiles)
            partial = torch.empty((chunks, rows, outputs), device=x.device)
            arrivals = self._arrivals.at_least(count_tiles(rows, outputs, tiles), x.device)
        batch_invariant_matmul(
            x=x,
            weight=plain,
            bias=bias,
            out=out,
            partial=partial,
            arrivals=arrivals,
            tiles=self._matmul_tiles,
        )
        return out

    def _plain(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """The weight as floating point numbers [out, in]."""
        if isinstance(weight, PackedCodes):
            return self._quantized.dequantized(weight, dtype)
        if isinstance(weight, QuantizedWeight):
            return weight.dequantized(dtype)
        return cast(Tensor, weight)
