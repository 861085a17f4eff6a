"""RMSNorm, a product and SwiGLU, as their own references have them."""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve_kernels.quantized_matmul.reference import numbers_of
from glmserve_kernels.silu_and_mul.reference import silu_and_mul


def norm_matmul_silu(
    *,
    x: Tensor,
    squares: Tensor,
    norm: Tensor,
    eps: float,
    weight: Tensor,
    scales: Tensor | None,
    bias: Tensor | None,
    out: Tensor,
    partial: Tensor | None,
    arrivals: Tensor | None,
) -> dict[str, Tensor]:
    """See kernel.norm_matmul_silu."""
    product = normed(x, squares, norm, eps) @ numbers_of(weight, scales).T
    if bias is not None:
        product += bias.double()
    return silu_and_mul(x=product, out=out)


def normed(x: Tensor, squares: Tensor, norm: Tensor, eps: float) -> Tensor:
    """The norm of x by its sums of squares, rounded to the dtype of x, in float64."""
    mean = squares.double().sum(1, keepdim=True) / x.shape[1]
    exact = x.double() * torch.rsqrt(mean + eps) * norm.double()
    return exact.to(x.dtype).double()
