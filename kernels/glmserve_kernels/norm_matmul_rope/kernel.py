"""What attention reads, from up to 64 normed rows: rotated queries, and keys and values in the
paged cache. One pass over the weight of queries, keys and values; a tile is one head."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.few_rows.kernel import hand_over, rows_of, sum_tile, whole_sum
from glmserve_kernels.few_rows.plan import (
    Split,
    launch_constants,
    launch_options,
    scales_strides,
    split_columns,
)
from glmserve_kernels.integers import next_power_of_2
from glmserve_kernels.rope_cache.kernel import LARGEST_CODE, load_rotation, rotate, store_vectors
from glmserve_kernels.tiles import Tiles


@triton.jit(do_not_specialize=["num_rows"])
def _norm_matmul_rope(
    x_ptr,
    squares_ptr,
    norm_ptr,
    weight_ptr,
    scales_ptr,
    bias_ptr,
    cos_sin_ptr,
    positions_ptr,
    slots_ptr,
    queries_ptr,
    keys_ptr,
    values_ptr,
    key_scales_ptr,
    value_scales_ptr,
    partial_ptr,
    arrivals_ptr,
    x_stride,
    weight_stride,
    scales_stride,
    groups_stride,
    queries_stride,
    keys_stride,
    values_stride,
    key_scales_stride,
    value_scales_stride,
    eps,
    num_rows,
    width,
    split_tiles,
    QUERY_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    D: tl.constexpr,
    R: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    LARGEST: tl.constexpr,
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
    head = tl.program_id(0)
    d = tl.arange(0, BLOCK_N)
    outputs = (head * D + tl.minimum(d, D - 1)).to(tl.int64)
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
    for i in tl.static_range(len(totals)):
        total = whole_sum(totals, i, partial_ptr)
        if bias_ptr is not None:
            total += tl.load(bias_ptr + outputs).to(tl.float32)[None, :]
        rows = rows_of(i)
        row_inside = rows < num_rows
        # Beyond the edge the last row is computed again, and not stored.
        real_rows = tl.minimum(rows, num_rows - 1).to(tl.int64)
        if head < QUERY_HEADS + KV_HEADS:
            cos_sin = load_rotation(cos_sin_ptr, positions_ptr, real_rows[:, None], R, BLOCK_N)
            total = rotate(total, cos_sin, R)
        if head < QUERY_HEADS:
            queries_at = queries_ptr + real_rows[:, None] * queries_stride + head * D + d[None, :]
            inside = row_inside[:, None] & (d < D)[None, :]
            tl.store(queries_at, total.to(queries_ptr.dtype.element_ty), mask=inside)
        else:
            slot = tl.load(slots_ptr + real_rows).to(tl.int64)
            is_cached = row_inside & (slot >= 0)
            block = slot // BLOCK_SIZE
            offset = slot % BLOCK_SIZE
            if head < QUERY_HEADS + KV_HEADS:
                kv_head = head - QUERY_HEADS
                start = block * keys_stride + (kv_head * BLOCK_SIZE + offset) * D
                at = start[:, None] + d[None, :]
                scale_at = block * key_scales_stride + kv_head * BLOCK_SIZE + offset
                store_vectors(total, keys_ptr, key_scales_ptr, is_cached, at, scale_at, D, LARGEST)
            else:
                kv_head = head - QUERY_HEADS - KV_HEADS
                start = block * values_stride + kv_head * (BLOCK_SIZE * D)
                if LARGEST == 0:
                    at = (start + offset * D)[:, None] + d[None, :]
                else:
                    at = (start + offset)[:, None] + (d * BLOCK_SIZE)[None, :]
                scale_at = block * value_scales_stride + kv_head * BLOCK_SIZE + offset
                store_vectors(
                    total, values_ptr, value_scales_ptr, is_cached, at, scale_at, D, LARGEST
                )


def split_heads(
    rows: int, weight: Tensor, scales: Tensor | None, head_dim: int, tiles: Tiles
) -> Split:
    """How the product of `rows` rows with a weight [heads * D, K] is cut up: the dims of a launch's
    scratch."""
    heads = len(weight) // head_dim
    return split_columns(rows, weight, scales, heads, head_tile(head_dim), tiles)


def head_tile(head_dim: int) -> int:
    """BLOCK_N for heads of so many numbers."""
    return next_power_of_2(max(head_dim, 16))


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
    tiles: Tiles,
    programmatic: bool = False,
) -> None:
    """[queries, keys, values] = n @ weight^T + bias, with queries and keys rotated, and keys and
    values written into the cache; n is the norm of x, x / sqrt(mean(x^2) + eps) * norm.

    n is rounded; the rest is computed in float32 and rounded once. Rotation and cache are those of
    rope_cache. The bits of a row do not depend on the other rows, on their number or on the row's
    index.

    Args:
        x: [M, K], rows contiguous; M up to 64.
        squares: float32 [M, S], contiguous; its rows add up to the squares of those of x.
        norm: [K]
        weight: [(Hq + 2*Hkv) * D, K] of the dtype of x, or codes: all queries, all keys, all
            values; rows contiguous.
        scales: [(Hq + 2*Hkv) * D, K/G] of a weight of codes, see quantized_matmul; None: it is of
            numbers.
        bias: [(Hq + 2*Hkv) * D]
        cos_sin, positions, slots, keys, values, key_scales, value_scales: as in rope_cache, T being
            M.
        queries: [M, Hq, D], written; heads contiguous.
        partial: float32, split_heads(...).partials numbers, overwritten. None: there are none.
        arrivals: int32, at least split_heads(...).tiles, all 0 before and after. None if `partial`
            is.
        programmatic: start while the kernel before ends. Needs an NVIDIA GPU from sm_90 on.
    """
    rows, width = x.shape
    _, num_heads, dim = queries.shape
    _, num_kv_heads, block_size, _ = keys.shape
    plan = split_heads(rows, weight, scales, dim, tiles)
    constants = launch_constants(rows, weight, scales, tiles)
    _norm_matmul_rope[(plan.tiles, plan.splits)](
        x,
        squares,
        norm,
        weight,
        scales,
        bias,
        cos_sin,
        positions,
        slots,
        queries,
        keys,
        values,
        key_scales,
        value_scales,
        partial if plan.splits > 1 else None,
        arrivals,
        x.stride(0),
        weight.stride(0),
        *scales_strides(scales),
        queries.stride(0),
        keys.stride(0),
        values.stride(0),
        0 if key_scales is None else key_scales.stride(0),
        0 if value_scales is None else value_scales.stride(0),
        eps,
        rows,
        width,
        plan.k_tiles,
        QUERY_HEADS=num_heads,
        KV_HEADS=num_kv_heads,
        D=dim,
        R=2 * cos_sin.shape[1],
        BLOCK_SIZE=block_size,
        LARGEST=LARGEST_CODE.get(keys.dtype, 0.0),
        PARTS=squares.shape[1],
        BLOCK_PARTS=next_power_of_2(squares.shape[1]),
        BLOCK_N=head_tile(dim),
        **constants,
        **launch_options(programmatic=programmatic),
    )
