"""One program per row. The row is read once and stays in registers for both passes."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import next_power_of_2
from glmserve_kernels.tiles import Tiles


@triton.jit
def _quantize_rows(
    x_ptr, codes_ptr, scales_ptr, x_stride, codes_stride, width, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    x = tl.load(x_ptr + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.max(tl.abs(x), 0) / 448.0
    codes = x / tl.maximum(scale, 1.1754943508222875e-38)  # float32's smallest normal number
    at = codes_ptr + row * codes_stride + columns
    tl.store(at, codes.to(codes_ptr.dtype.element_ty), mask=inside)
    tl.store(scales_ptr + row, scale)


def quantize_rows(*, x: Tensor, codes: Tensor, scales: Tensor, tiles: Tiles) -> None:
    """codes = x / scale, scale = largest absolute number of the row / 448; float32 inside.

    Args:
        x: [T, K], rows contiguous.
        codes: float8_e4m3fn [T, K], written.
        scales: float32 [T], written. A row of zeros gets 0.
    """
    rows, width = x.shape
    _quantize_rows[(rows,)](
        x,
        codes,
        scales,
        x.stride(0),
        codes.stride(0),
        width,
        BLOCK=next_power_of_2(width),
        **tiles["any"],
    )
