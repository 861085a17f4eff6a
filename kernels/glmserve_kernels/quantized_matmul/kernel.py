"""Weights are read as codes and converted to numbers just before the tensor cores use them.

With few tokens K is split over programs. The one that ends last adds their partial sums in order.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.normed_rows.kernel import add_products, no_products, rows_at
from glmserve_kernels.split_k.kernel import add_partials, is_last_program
from glmserve_kernels.tiles import Tiles


@triton.jit
def decode(words, plane: tl.constexpr, dtype: tl.constexpr):
    """Codes as numbers of type `dtype`: int8 itself, or the 4 bits of int16 that `plane` names.

    A code becomes the last bits of a 16-bit number that is so large that its last bit has the value
    1; then the rest is subtracted. The compiler does this in 16 bits, two codes at a time. Codes of
    8 bits have one bit more than bfloat16's significand.
    """
    if words.dtype == tl.int8:
        if dtype == tl.float16:
            code = words.to(tl.int16) & 255
            number = (code ^ 0x6480).to(tl.float16, bitcast=True).to(tl.float32) - 1152.0
        else:
            number = words
    else:
        code = (words >> 4 * plane) & 15
        if dtype == tl.float16:
            number = (code ^ 0x6408).to(tl.float16, bitcast=True).to(tl.float32) - 1032.0
        else:
            number = (code ^ 0x4308).to(tl.bfloat16, bitcast=True).to(tl.float32) - 136.0
    return number.to(dtype)


@triton.jit
def word_columns(COUNT: tl.constexpr, PLANES: tl.constexpr):
    """Columns that the first plane of COUNT words holds: [1, COUNT]."""
    words = tl.arange(0, COUNT)[None, :]
    return words if PLANES == 1 else words // 8 * 32 + words % 8


@triton.jit
def sum_codes(
    x_ptr,
    x_stride,
    norm_ptr,
    norm_scales,
    weight_ptr,
    weight_stride,
    scales_ptr,
    scales_stride,
    groups_stride,
    rows,
    outputs,
    width,
    first,
    last,
    PLANES: tl.constexpr,
    GROUP: tl.constexpr,
    SCALE_ONCE: tl.constexpr,
    SCALE_SUMS: tl.constexpr,
    IS_EVEN: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """x @ (codes * scales)^T over tiles first..last-1 of K: for each tile of rows a float32
    [BLOCK_M, BLOCK_N], in a tuple.

    Args:
        norm_ptr, norm_scales: see add_products.
        rows: a tuple of int64 [BLOCK_M], rows of x, which exist.
        outputs: int64 [BLOCK_N], rows of the weight, which exist.
    """
    dtype: tl.constexpr = x_ptr.dtype.element_ty
    words = tl.arange(0, BLOCK_K // PLANES)[None, :]
    columns = word_columns(BLOCK_K // PLANES, PLANES)
    x_at = rows_at(x_ptr, x_stride, rows, columns)
    weight_at = weight_ptr + outputs[:, None] * weight_stride + words
    scales_at = scales_ptr + outputs * scales_stride
    totals = no_products(rows, outputs)
    for tile in range(first, last):
        k = tile * BLOCK_K
        inside = None if IS_EVEN else k + columns < width
        fill = None if IS_EVEN else 0
        codes = tl.load(weight_at + tile * (BLOCK_K // PLANES), mask=inside, other=fill)
        parts = no_products(rows, outputs) if SCALE_SUMS else totals
        for plane in tl.static_range(PLANES):
            start = k + 8 * plane
            norm_at = None if norm_ptr is None else norm_ptr + start + columns
            weight = decode(codes, plane, dtype)
            if not (SCALE_ONCE or SCALE_SUMS):
                at = scales_at[:, None] + (k + columns) // GROUP * groups_stride
                scale = tl.load(at, mask=inside, other=fill).to(tl.float32)
                weight = (weight.to(tl.float32) * scale).to(dtype)
            parts = add_products(parts, x_at, start, norm_at, norm_scales, inside, fill, weight)
        if SCALE_SUMS:
            scale = tl.load(scales_at + k // GROUP * groups_stride).to(tl.float32)
            totals = _added(totals, _scaled(parts, scale))
        else:
            totals = parts
    if SCALE_ONCE:
        totals = _scaled(totals, tl.load(scales_at).to(tl.float32))
    return totals


@triton.jit
def _scaled(parts, scales):
    """Each of these tiles times the scales of its outputs, float32 [BLOCK_N]."""
    found = ()
    for i in tl.static_range(len(parts)):
        found = found + (parts[i] * scales[None, :],)
    return found


@triton.jit
def _added(totals, parts):
    """Each of these tiles and its part."""
    found = ()
    for i in tl.static_range(len(parts)):
        found = found + (totals[i] + parts[i],)
    return found


@triton.jit(do_not_specialize=["num_rows", "split_tiles"])
def _quantized_matmul(
    x_ptr,
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
    num_rows,
    num_outputs,
    width,
    split_tiles,
    PLANES: tl.constexpr,
    GROUP: tl.constexpr,
    SCALE_ONCE: tl.constexpr,
    SCALE_SUMS: tl.constexpr,
    IS_EVEN: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # Programs of neighbouring numbers share a tile of the weight.
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    outputs = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    # Beyond the edge the last row is computed again, and not stored.
    real_rows = tl.minimum(rows, num_rows - 1).to(tl.int64)
    real_outputs = tl.minimum(outputs, num_outputs - 1).to(tl.int64)
    first = split * split_tiles
    (total,) = sum_codes(
        x_ptr,
        x_stride,
        None,
        None,
        weight_ptr,
        weight_stride,
        scales_ptr,
        scales_stride,
        groups_stride,
        (real_rows,),
        real_outputs,
        width,
        first,
        tl.minimum(first + split_tiles, tl.cdiv(width, BLOCK_K)),
        PLANES,
        GROUP,
        SCALE_ONCE,
        SCALE_SUMS,
        IS_EVEN,
        BLOCK_K,
    )

    inside = (rows < num_rows)[:, None] & (outputs < num_outputs)[None, :]
    if IS_SPLIT:
        split_stride = num_rows.to(tl.int64) * num_outputs
        partial_at = partial_ptr + rows.to(tl.int64)[:, None] * num_outputs + outputs[None, :]
        tl.store(partial_at + split * split_stride, total, mask=inside)
        tile = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        if not is_last_program(arrivals_ptr + tile, tl.num_programs(2)):
            return
        total = add_partials(partial_at, split_stride, tl.num_programs(2), inside)
    if HAS_BIAS:
        total += tl.load(bias_ptr + real_outputs).to(tl.float32)[None, :]
    at = out_ptr + rows.to(tl.int64)[:, None] * out_stride + outputs[None, :]
    tl.store(at, total.to(out_ptr.dtype.element_ty), mask=inside)


def count_splits(rows: int, weight: Tensor, width: int, tiles: Tiles) -> int:
    """Number of programs that K = `width` is split over: the first dim of `partial`, if more than
    1.

    It depends on the shape class of M = `rows`, not on M itself.
    """
    constants = tiles[_shape_class(rows, weight)]
    columns_of_tiles = ceil_div(weight.shape[0], constants["BLOCK_N"])
    k_tiles = ceil_div(width, constants["BLOCK_K"])
    splits = max(1, min(constants["PROGRAMS"] // columns_of_tiles, k_tiles // 4))
    return ceil_div(k_tiles, ceil_div(k_tiles, splits))


def count_tiles(rows: int, weight: Tensor, tiles: Tiles) -> int:
    """Tiles of the product of `rows` rows: the least number of `arrivals`."""
    constants = tiles[_shape_class(rows, weight)]
    return ceil_div(rows, constants["BLOCK_M"]) * ceil_div(weight.shape[0], constants["BLOCK_N"])


def fit_block_k(block_k: int, width: int, groups: int) -> int:
    """BLOCK_K for a weight with so many groups of columns: a tile is in one of them, if it can."""
    return block_k if groups == 1 else max(64, math.gcd(block_k, width // groups))


def scaling(weight: Tensor, scales: Tensor, width: int, block_k: int) -> dict[str, int]:
    """How `sum_codes` reads codes [N, K] or [N, K/4] and applies their scales [N, K/G]."""
    groups = scales.shape[1]
    group = width // groups
    return {
        "PLANES": 1 if weight.dtype == torch.int8 else 4,
        "GROUP": group,
        "SCALE_ONCE": groups == 1,
        "SCALE_SUMS": groups > 1 and group % block_k == 0,
    }


def _shape_class(rows: int, weight: Tensor) -> str:
    bits = 8 if weight.dtype == torch.int8 else 4
    return f"int{bits}-m{16 if rows <= 16 else 64 if rows <= 64 else 128}"


def quantized_matmul(
    *,
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    bias: Tensor | None,
    out: Tensor,
    partial: Tensor | None,
    arrivals: Tensor | None,
    tiles: Tiles,
) -> None:
    """out = x @ (codes * scales)^T + bias: float32 sums, rounded once.

    Within a shape class (M up to 16, up to 64, more), and with as many splits, the bits of a row of
    `out` do not depend on the other rows or on M.

    Args:
        x: [M, K], rows contiguous; K a multiple of 32.
        weight: codes; int8 [N, K], or of 4 bits as `pack_int4` makes them, int16 [N, K/4]; rows
            contiguous.
        scales: [N, K/G], each for G columns of a row; G a multiple of 32. Column-major ones
            are read fastest. If G is not K and no multiple of 64, the products of codes and scales
            are rounded to the dtype of x.
        bias: [N]
        out: [M, N] of any float dtype, written; rows contiguous.
        partial: float32 [splits, M, N], contiguous, overwritten; `count_splits` says how many.
            None: K is not split.
        arrivals: int32, at least `count_tiles`, all 0 before and after. None if K is not split.
    """
    rows, width = x.shape
    outputs, groups = scales.shape
    constants = dict(tiles[_shape_class(rows, weight)])
    del constants["PROGRAMS"]
    block_k = constants["BLOCK_K"] = fit_block_k(constants["BLOCK_K"], width, groups)
    splits = 1 if partial is None else partial.shape[0]
    grid = (
        ceil_div(rows, constants["BLOCK_M"]),
        ceil_div(outputs, constants["BLOCK_N"]),
        splits,
    )
    _quantized_matmul[grid](
        x,
        weight,
        scales,
        scales if bias is None else bias,
        out,
        partial,
        arrivals,
        x.stride(0),
        weight.stride(0),
        scales.stride(0),
        scales.stride(1),
        out.stride(0),
        rows,
        outputs,
        width,
        ceil_div(ceil_div(width, block_k), splits),
        IS_EVEN=width % block_k == 0,
        **scaling(weight, scales, width, block_k),
        HAS_BIAS=bias is not None,
        IS_SPLIT=partial is not None,
        **constants,
    )
