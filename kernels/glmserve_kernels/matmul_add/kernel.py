"""residual += x @ weight^T + bias for up to 64 rows. The program that ends last of a tile adds up
its parts, and what the next norm needs to know: the sum of squares of each row of the tile."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.few_rows.kernel import hand_over, rows_of, sum_columns, sum_tile, whole_sum
from glmserve_kernels.few_rows.plan import (
    launch_constants,
    launch_options,
    scales_strides,
    split_outputs,
)
from glmserve_kernels.integers import ceil_div
from glmserve_kernels.tiles import Tiles

PART = 64
"""Columns whose squares are added up; each chip's BLOCK_N is a multiple of it."""


@triton.jit(do_not_specialize=["num_rows"])
def _matmul_add(
    x_ptr,
    weight_ptr,
    scales_ptr,
    bias_ptr,
    residual_ptr,
    squares_ptr,
    partial_ptr,
    arrivals_ptr,
    x_stride,
    weight_stride,
    scales_stride,
    groups_stride,
    residual_stride,
    num_rows,
    num_outputs,
    width,
    split_tiles,
    PLANES: tl.constexpr,
    GROUP: tl.constexpr,
    SCALE_ONCE: tl.constexpr,
    SCALE_SUMS: tl.constexpr,
    IS_EVEN: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PART: tl.constexpr,
):
    tile = tl.program_id(0)
    outputs = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    # Beyond the edge the last row is computed again, and not stored.
    real_outputs = tl.minimum(outputs, num_outputs - 1).to(tl.int64)
    totals = sum_tile(
        x_ptr,
        x_stride,
        None,
        None,
        0.0,
        weight_ptr,
        weight_stride,
        scales_ptr,
        scales_stride,
        groups_stride,
        num_rows,
        real_outputs,
        width,
        split_tiles,
        0,
        0,
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
    parts = tl.cdiv(num_outputs, PART)
    part = tile * (BLOCK_N // PART) + tl.arange(0, BLOCK_N // PART)
    for i in tl.static_range(len(totals)):
        total = whole_sum(totals, i, partial_ptr)
        if bias_ptr is not None:
            total += tl.load(bias_ptr + real_outputs).to(tl.float32)[None, :]
        rows = rows_of(i)
        at = residual_ptr + rows.to(tl.int64)[:, None] * residual_stride + outputs[None, :]
        inside = (rows < num_rows)[:, None] & (outputs < num_outputs)[None, :]
        total += tl.load(at, mask=inside, other=0.0).to(tl.float32)
        rounded = total.to(residual_ptr.dtype.element_ty)
        tl.store(at, rounded, mask=inside)
        seen = tl.where(inside, rounded.to(tl.float32), 0.0)
        squares = sum_columns(tl.reshape(seen * seen, [rows.shape[0] * BLOCK_N // PART, PART]))
        squares = tl.reshape(squares, [rows.shape[0], BLOCK_N // PART])
        known = (rows < num_rows)[:, None] & (part < parts)[None, :]
        tl.store(squares_ptr + rows[:, None] * parts + part[None, :], squares, mask=known)


def count_parts(outputs: int) -> int:
    """Sums of squares of a row of so many columns."""
    return ceil_div(outputs, PART)


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
    tiles: Tiles,
    programmatic: bool = False,
) -> None:
    """residual += x @ weight^T + bias: float32 sums, rounded once.

    The bits of a row do not depend on the other rows, on their number or on the row's index.

    Args:
        x: [M, K], rows contiguous; M up to 64.
        weight: [N, K] of the same dtype, or codes; rows contiguous.
        scales: [N, K/G] of a weight of codes, see quantized_matmul; None: it is of numbers.
        bias: [N]
        residual: [M, N], overwritten; rows contiguous.
        squares: float32 [M, count_parts(N)], contiguous, written: sums of the squares of columns
            of the new residual. Their sum is that of all columns.
        partial: float32, split_outputs(...).partials numbers, overwritten. None: there are none.
        arrivals: int32, at least split_outputs(...).tiles, all 0 before and after. None if
            `partial` is.
        programmatic: start while the kernel before ends. Needs an NVIDIA GPU from sm_90 on.
    """
    rows, width = x.shape
    outputs = len(weight)
    plan = split_outputs(rows, weight, scales, tiles)
    constants = launch_constants(rows, weight, scales, tiles)
    _matmul_add[(plan.tiles, plan.splits)](
        x,
        weight,
        scales,
        bias,
        residual,
        squares,
        partial if plan.splits > 1 else None,
        arrivals,
        x.stride(0),
        weight.stride(0),
        *scales_strides(scales),
        residual.stride(0),
        rows,
        outputs,
        width,
        plan.k_tiles,
        PART=PART,
        **constants,
        **launch_options(programmatic=programmatic),
    )
