"""TorchCpuOps with batch-invariant results: --deterministic without our own kernels.

Libraries choose the order of a sum by the shapes they are given. So every product here has one
shape: rows are computed in blocks of 16, the last one padded with zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.cpu.torch_ops import TorchCpuOps
from glmserve.ops.linear.packed import PackedWeight

_ROWS = 16


class BatchInvariantCpuOps(TorchCpuOps[Cache, Plan]):
    """TorchCpuOps, applied to blocks of rows or to single rows."""

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        multiply = super().linear
        return _in_blocks(x, lambda rows: multiply(rows, weight, bias))

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = super().rms_norm
        return _in_blocks(x, lambda rows: norm(rows, weight, eps))

    def silu_and_mul(self, x: Tensor) -> Tensor:
        return _by_rows(x, super().silu_and_mul)

    def gelu(self, x: Tensor) -> Tensor:
        return _by_rows(x, super().gelu)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        norm = super().layer_norm
        return _in_blocks(x, lambda rows: norm(rows, weight, bias, eps))


def _by_rows(x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """`compute` on x [n, ...] one row at a time.

    torch splits all numbers among threads, and computes the last few of each part by other code
    than whole vectors.
    """
    return torch.cat([compute(row) for row in x.unsqueeze(1).unbind()]) if len(x) else compute(x)


def _in_blocks(x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """`compute` on x [n, ...] in blocks of _ROWS rows."""
    padded = F.pad(x, (0, 0, 0, -len(x) % _ROWS))
    blocks = padded.view(-1, _ROWS, x.shape[1]).unbind()
    return torch.cat([compute(block) for block in blocks])[: len(x)]
