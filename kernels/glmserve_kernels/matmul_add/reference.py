"""A product, a sum, and the squares of that."""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve_kernels.matmul_add.kernel import PART
from glmserve_kernels.quantized_matmul.reference import numbers_of


def matmul_add(
    *,
    x: Tensor,
    weight: Tensor,
    scales: Tensor | None,
    bias: Tensor | None,
    residual: Tensor,
    squares: Tensor,
    partial: Tensor | None,
    arrivals: Tensor | None,
) -> dict[str, Tensor]:
    """See kernel.matmul_add."""
    total = residual.double() + x.double() @ numbers_of(weight, scales).T
    if bias is not None:
        total += bias.double()
    seen = total.to(residual.dtype).double().square()
    padded = torch.nn.functional.pad(seen, (0, -seen.shape[1] % PART))
    return {"residual": total, "squares": padded.view(len(x), -1, PART).sum(-1)}
