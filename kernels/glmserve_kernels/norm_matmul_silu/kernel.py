"""silu(gate) * up of normed rows, for up to 64 of them: in one pass over the weight of gate and up.

A tile has the gates and the ups of the same columns, in turn, so that a thread has both.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.few_rows.kernel import hand_over, rows_of, sum_tile, whole_sum
from glmserve_kernels.few_rows.plan import (
    launch_constants,
    launch_options,
    scales_strides,
    split_outputs,
)
from glmserve_kernels.integers import next_power_of_2
from glmserve_kernels.silu_and_mul.kernel import gated
from glmserve_kernels.tiles import Tiles


@triton.jit(do_not_specialize=["num_rows"])
def _norm_matmul_silu(
    x_ptr,
    squares_ptr,
    norm_ptr,
    weight_ptr,
    scales_ptr,
    bias_ptr,
    out_ptr,
    partial_ptr,
    arrivals_ptr,
    x_stride,
    weight_stride,
    scales_stride,
    groups_stride,
    out_stride,
    eps,
    num_rows,
    num_outputs,
    width,
    split_tiles,
    PARTS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    PLANES: tl.constexpr,
    GROUP: tl.constexpr,
    SCALE_ONCE: tl.constexpr,
    SCALE_SUMS: tl.constexpr,
    IS_EVEN: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    half: tl.constexpr = BLOCK_N // 2
    both = tl.arange(0, BLOCK_N)
    # Beyond the edge the last column is computed again, and not stored.
    column = tl.minimum(tl.program_id(0) * half + both // 2, num_outputs - 1)
    outputs = (column + both % 2 * num_outputs).to(tl.int64)
    totals = sum_tile(
        x_ptr,
        x_stride,
        norm_ptr,
        squares_ptr,
        eps,
        weight_ptr,
        weight_stride,
        scales_ptr,
        scales_stride,
        groups_stride,
        num_rows,
        outputs,
        width,
        split_tiles,
        PARTS,
        BLOCK_PARTS,
        PLANES,
        GROUP,
        SCALE_ONCE,
        SCALE_SUMS,
        IS_EVEN,
        PROGRAMMATIC,
        BLOCK_M,
        BLOCK_K,
    )
    if not hand_over(totals, partial_ptr, arrivals_ptr):
        return
    columns = tl.program_id(0) * half + tl.arange(0, half)
    for i in tl.static_range(len(totals)):
        total = whole_sum(totals, i, partial_ptr)
        if bias_ptr is not None:
            total += tl.load(bias_ptr + outputs).to(tl.float32)[None, :]
        rows = rows_of(i)
        gate, up = tl.split(tl.reshape(total, [rows.shape[0], half, 2]))
        at = out_ptr + rows.to(tl.int64)[:, None] * out_stride + columns[None, :]
        inside = (rows < num_rows)[:, None] & (columns < num_outputs)[None, :]
        tl.store(at, gated(gate, up).to(out_ptr.dtype.element_ty), mask=inside)


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
    tiles: Tiles,
    programmatic: bool = False,
) -> None:
    """out = silu(gate) * up; [gate, up] = n @ weight^T + bias; n is the norm of x,
    x / sqrt(mean(x^2) + eps) * norm.

    n is rounded; the rest is computed in float32 and rounded once. The bits of a row do not depend
    on the other rows, on their number or on the row's index.

    Args:
        x: [M, K], rows contiguous; M up to 64.
        squares: float32 [M, S], contiguous; its rows add up to the squares of those of x.
        norm: [K]
        weight: [2F, K] of the dtype of x, or codes: all gates, then all ups; rows contiguous.
        scales: [2F, K/G] of a weight of codes, see quantized_matmul; None: it is of numbers.
        bias: [2F]
        out: [M, F], written; rows contiguous.
        partial: float32, split_outputs(...).partials numbers, overwritten. None: there are none.
        arrivals: int32, at least split_outputs(...).tiles, all 0 before and after. None if
            `partial` is.
        programmatic: start while the kernel before ends. Needs an NVIDIA GPU from sm_90 on.
    """
    rows, width = x.shape
    plan = split_outputs(rows, weight, scales, tiles)
    constants = launch_constants(rows, weight, scales, tiles)
    _norm_matmul_silu[(plan.tiles, plan.splits)](
        x,
        squares,
        norm,
        weight,
        scales,
        bias,
        out,
        partial if plan.splits > 1 else None,
        arrivals,
        x.stride(0),
        weight.stride(0),
        *scales_strides(scales),
        out.stride(0),
        eps,
        rows,
        out.shape[1],
        width,
        plan.k_tiles,
        PARTS=squares.shape[1],
        BLOCK_PARTS=next_power_of_2(squares.shape[1]),
        **constants,
        **launch_options(programmatic=programmatic),
    )
