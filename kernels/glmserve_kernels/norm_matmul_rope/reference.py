"""RMSNorm, a product, rotation and the paged cache, as their own references have them."""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve_kernels.norm_matmul_silu.reference import normed
from glmserve_kernels.quantized_matmul.reference import numbers_of
from glmserve_kernels.rope_cache.reference import rope_cache


def norm_matmul_rope(
    *,
    x: Tensor,
    squares: Tensor,
    norm: Tensor,
    eps: float,
    weight: Tensor,
    scales: Tensor | None,
    bias: Tensor | None,
    cos_sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_scales: Tensor | None,
    value_scales: Tensor | None,
    partial: Tensor | None,
    arrivals: Tensor | None,
) -> dict[str, Tensor]:
    """See kernel.norm_matmul_rope."""
    product = normed(x, squares, norm, eps) @ numbers_of(weight, scales).T
    if bias is not None:
        product += bias.double()
    num_heads, dim = queries.shape[1:]
    qkv = product.view(len(x), -1, dim)
    expected = rope_cache(
        qkv=qkv.clone(),
        cos_sin=cos_sin,
        positions=positions,
        slots=slots,
        keys=keys,
        values=values,
        key_scales=key_scales,
        value_scales=value_scales,
        num_heads=num_heads,
    )
    rotated = expected.pop("qkv")[:, :num_heads]
    passed = qkv[:, :num_heads]
    return {"queries": torch.where(rotated.isnan(), passed, rotated), **expected}
