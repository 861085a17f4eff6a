"""One program per row and section of columns. Each number is read once and written once."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.tiles import Tiles


@triton.jit
def gated(gate, up):
    """silu(gate) * up, float32."""
    decay = tl.exp(-tl.abs(gate))  # cannot overflow
    sigmoid = tl.where(gate >= 0, 1.0, decay) / (1.0 + decay)
    return gate * sigmoid * up


@triton.jit
def _silu_and_mul(x_ptr, out_ptr, x_stride, out_stride, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    at = x_ptr + row * x_stride + columns
    gate = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(at + width, mask=inside, other=0.0).to(tl.float32)
    out = gated(gate, up)
    tl.store(out_ptr + row * out_stride + columns, out.to(out_ptr.dtype.element_ty), mask=inside)


def silu_and_mul(*, x: Tensor, out: Tensor, tiles: Tiles) -> None:
    """out = silu(gate) * up, silu(g) = g / (1 + exp(-g)); float32 inside, rounded once.

    Args:
        x: [T, 2F]: all gates of a token, then all ups; rows contiguous.
        out: [T, F], written; rows contiguous.
    """
    rows, width = out.shape
    constants = tiles["any"]
    grid = (rows, ceil_div(width, constants["BLOCK"]))
    _silu_and_mul[grid](x, out, x.stride(0), out.stride(0), width, **constants)
