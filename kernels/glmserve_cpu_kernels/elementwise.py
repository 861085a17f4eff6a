"""Operations between the matrix products of a block, for rows of float32 or bfloat16.

They compute in float32 and round once. The result for a row does not depend on the other rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve_cpu_kernels.library import TYPES, Library


def rms_norm(
    library: Library, x: Tensor | None, residual: Tensor, weight: Tensor, eps: float
) -> Tensor:
    """residual / sqrt(mean(residual^2) + eps) * weight; x [T, H] is added to `residual` first."""
    out = torch.empty_like(residual)
    library.functions.glm_rms_norm(
        TYPES[residual.dtype],
        None if x is None else x.data_ptr(),
        residual.data_ptr(),
        weight.data_ptr(),
        eps,
        *residual.shape,
        out.data_ptr(),
    )
    return out


def silu_and_mul(library: Library, x: Tensor) -> Tensor:
    """silu(first half) * second half: [T, 2F] to [T, F]."""
    tokens, size = x.shape[0], x.shape[1] // 2
    out = torch.empty((tokens, size), dtype=x.dtype)
    library.functions.glm_silu_and_mul(TYPES[x.dtype], x.data_ptr(), tokens, size, out.data_ptr())
    return out


def gelu(library: Library, x: Tensor) -> Tensor:
    """GELU by its tanh approximation: [T, F] to [T, F]."""
    out = torch.empty_like(x)
    library.functions.glm_gelu(TYPES[x.dtype], x.data_ptr(), *x.shape, out.data_ptr())
    return out


def rope(library: Library, heads: Tensor, rows: Tensor) -> None:
    """Rotate pair (2i, 2i+1) of each of `heads` [T, heads, D] by rows complex64 [T, 1, i], in
    place.

    The heads of a token must be contiguous; the stride of tokens is free.

    Raises:
        ValueError: the heads are not contiguous.
    """
    tokens, num_heads, dim = heads.shape
    if heads.stride(1) != dim:
        raise ValueError("heads of a token must follow one another")
    library.functions.glm_rope(
        *(TYPES[heads.dtype], heads.data_ptr(), rows.data_ptr()),
        *(tokens, num_heads, dim, heads.stride(0), rows.shape[-1]),
    )
