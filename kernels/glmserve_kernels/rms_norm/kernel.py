"""One program per row. The row is read once and stays in registers for both passes."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import next_power_of_2
from glmserve_kernels.tiles import Tiles


@triton.jit
def _rms_norm(
    x_ptr,
    residual_ptr,
    weight_ptr,
    out_ptr,
    x_stride,
    residual_stride,
    out_stride,
    width,
    eps,
    HAS_RESIDUAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    x = tl.load(x_ptr + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        at = residual_ptr + row * residual_stride + columns
        x += tl.load(at, mask=inside, other=0.0).to(tl.float32)
        rounded = x.to(residual_ptr.dtype.element_ty)
        tl.store(at, rounded, mask=inside)
        x = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 0) / width + eps)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    out = (x * scale * weight).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * out_stride + columns, out, mask=inside)


def rms_norm(
    *, x: Tensor, residual: Tensor | None, weight: Tensor, out: Tensor, eps: float, tiles: Tiles
) -> None:
    """out = y / sqrt(mean(y^2) + eps) * weight, y = x + residual; float32 inside, rounded once.

    Args:
        x: [T, H], rows contiguous.
        residual: [T, H]; becomes y, and is rounded before it is normed. None: y is x.
        weight: [H]
        out: [T, H], written.
    """
    rows, width = x.shape
    _rms_norm[(rows,)](
        x,
        residual,
        weight,
        out,
        x.stride(0),
        0 if residual is None else residual.stride(0),
        out.stride(0),
        width,
        eps,
        HAS_RESIDUAL=residual is not None,
        BLOCK=next_power_of_2(width),
        **tiles["any"],
    )
