"""A tile of rows, normed or as they are."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_rows(x_at, norm_at, norm_scales, inside, fill):
    """x_at [BLOCK_M, n] read, where `inside`.

    Args:
        norm_at: [1, n], a norm's weight: what is read is multiplied by it and by norm_scales
            [BLOCK_M], in float32, and rounded. None: it is as it is.
    """
    x = tl.load(x_at, mask=inside, other=fill)
    if norm_at is not None:
        norm = tl.load(norm_at, mask=inside, other=fill).to(tl.float32)
        x = (x.to(tl.float32) * norm_scales[:, None] * norm).to(x.dtype)
    return x
