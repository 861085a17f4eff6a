"""A tile of a product of a few rows. It takes as long as reading the weight, once, at the full
speed of memory; so the programs of a product share K as well.

A row has the same bits whatever the height of the tile: its products are added up by dots of
DOT_ROWS rows, as many as the tile needs, and other sums have an order that the layout of a tile in
registers does not change.
"""

from __future__ import annotations

import triton
import triton.language as tl

from glmserve_kernels.normed_rows.kernel import add_products, no_products, rows_at
from glmserve_kernels.quantized_matmul.kernel import sum_codes
from glmserve_kernels.split_k.kernel import add_partials, is_last_program

PREFETCHED = tl.constexpr(2)
"""Tiles of the weight that each program fetches before the kernel before it has ended: of a
ChatGLM2-6B's largest weight 14 MB, which is less than an H100's L2 cache and as much as its memory
gives in some 4 us."""
DOT_ROWS = tl.constexpr(16)
"""Rows of a dot. From 64 on an H100 would take other instructions (wgmma), from 32 on an MI300
would, and these add up in another order."""
_LINE = tl.constexpr(128)
"""Bytes of a cache line."""


@triton.jit
def _begin(
    weight_ptr,
    weight_stride,
    outputs,
    width,
    split_tiles,
    PLANES: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    """Before this, nothing may be read that another kernel writes; after it, everything may.

    A PROGRAMMATIC launch starts while the kernel before it ends (CUDA C++ Programming Guide,
    "Programmatic Dependent Launch and Synchronization"). Each program then fetches the first
    columns of its rows of the weight into the L2 cache, waits until all that the kernels before
    have written can be read, and lets the next kernel start.

    Args:
        outputs: int64 [BLOCK_N], rows of the weight.
    """
    if PROGRAMMATIC:
        step: tl.constexpr = _LINE * 8 // weight_ptr.dtype.element_ty.primitive_bitwidth
        block: tl.constexpr = BLOCK_K // PLANES
        lines: tl.constexpr = max(1, PREFETCHED * block // step)
        words = tl.arange(0, lines) * step
        words = tl.minimum(tl.program_id(1) * split_tiles * block + words, width // PLANES - 1)
        at = weight_ptr + outputs[:, None] * weight_stride + words[None, :]
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
            "=r,l",
            [at.to(tl.int64)],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def sum_columns(x):
    """[n, 2^k] summed over its columns: two neighbours, then two neighbouring sums, and so on; [n].
    Of two numbers there is only one order."""
    if x.shape[1] == 1:
        total = tl.reshape(x, [x.shape[0]])
    else:
        total = sum_columns(tl.sum(tl.reshape(x, [x.shape[0], x.shape[1] // 2, 2]), 2))
    return total


@triton.jit
def _norm_scales(
    squares_ptr,
    rows,
    width,
    eps,
    PARTS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
):
    """1 / sqrt(mean of the squares + eps) of the rows of each tile, whose sums of squares over
    parts of their columns are float32 [M, PARTS]."""
    part = tl.arange(0, BLOCK_PARTS)[None, :]
    found = ()
    for i in tl.static_range(len(rows)):
        at = squares_ptr + rows[i][:, None] * PARTS + part
        squares = tl.load(at, mask=part < PARTS, other=0.0)
        total = sum_columns(squares)[:, None]
        # All are equal, as no square is negative; but laid out in threads as what was loaded.
        bits = tl.where(squares < 0, squares, total).to(tl.int32, bitcast=True)
        total = tl.max(bits, 1).to(tl.float32, bitcast=True)
        found = found + (tl.rsqrt(total / width + eps),)
    return found


@triton.jit
def rows_of(i: tl.constexpr):
    """The rows of dot i: int32 [DOT_ROWS]."""
    return i * DOT_ROWS + tl.arange(0, DOT_ROWS)


@triton.jit
def _rows_of_dots(num_rows, BLOCK_M: tl.constexpr):
    """The rows of a tile, int64 [DOT_ROWS] of each dot. Beyond the edge it is the last row."""
    found = ()
    for i in tl.static_range(BLOCK_M // DOT_ROWS):
        found = found + (tl.minimum(rows_of(i), num_rows - 1).to(tl.int64),)
    return found


@triton.jit
def sum_tile(
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
    PARTS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    PLANES: tl.constexpr,
    GROUP: tl.constexpr,
    SCALE_ONCE: tl.constexpr,
    SCALE_SUMS: tl.constexpr,
    IS_EVEN: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """x @ weight^T over this program's part of K: for each DOT_ROWS of the tile's rows a float32
    [DOT_ROWS, BLOCK_N], in a tuple. Programs call it before they read anything that another kernel
    writes.

    Args:
        norm_ptr: [K], a norm's weight: x is normed first, by the sums of squares at squares_ptr.
            None: x is taken as it is.
        scales_ptr: of a weight of codes, see sum_codes; None: the weight is of numbers.
        num_rows: of x, up to BLOCK_M. Beyond them the last row is computed again.
        outputs: int64 [BLOCK_N], rows of the weight, which exist.
        split_tiles: tiles of BLOCK_K columns that each program of the second dimension takes.
    """
    _begin(weight_ptr, weight_stride, outputs, width, split_tiles, PLANES, BLOCK_K, PROGRAMMATIC)
    rows = _rows_of_dots(num_rows, BLOCK_M)
    if norm_ptr is None:
        norm_scales = None
    else:
        norm_scales = _norm_scales(squares_ptr, rows, width, eps, PARTS, BLOCK_PARTS)
    first = tl.program_id(1) * split_tiles
    last = tl.minimum(first + split_tiles, tl.cdiv(width, BLOCK_K))
    if scales_ptr is not None:
        totals = sum_codes(
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
            PLANES,
            GROUP,
            SCALE_ONCE,
            SCALE_SUMS,
            IS_EVEN,
            BLOCK_K,
        )
    else:
        columns = tl.arange(0, BLOCK_K)[None, :]
        x_at = rows_at(x_ptr, x_stride, rows, columns)
        weight_at = weight_ptr + outputs[:, None] * weight_stride + columns
        totals = no_products(rows, outputs)
        for tile in range(first, last):
            k = tile * BLOCK_K
            inside = None if IS_EVEN else k + columns < width
            fill = None if IS_EVEN else 0.0
            weight = tl.load(weight_at + k, mask=inside, other=fill)
            norm_at = None if norm_ptr is None else norm_ptr + k + columns
            totals = add_products(totals, x_at, k, norm_at, norm_scales, inside, fill, weight)
    return totals


@triton.jit
def hand_over(totals, partial_ptr, arrivals_ptr):
    """Store this program's part of a tile's sums, if K is shared. Whether all parts are there."""
    if partial_ptr is None:
        is_last = True
    else:
        tile = tl.program_id(0)
        number = tl.program_id(1) * tl.num_programs(0) + tile
        for i in tl.static_range(len(totals)):
            tl.store(partial_ptr + _offsets(totals, i, number), totals[i])
        is_last = is_last_program(arrivals_ptr + tile, tl.num_programs(1))
    return is_last


@triton.jit
def whole_sum(totals, i: tl.constexpr, partial_ptr):
    """Sum i of a tile: what this program has, or, if K is shared, all parts in the order of K.
    Call it only when the one before is used: then registers hold one at a time."""
    if partial_ptr is None:
        total = totals[i]
    else:
        at = partial_ptr + _offsets(totals, i, tl.program_id(0))
        step = tl.num_programs(0) * (len(totals) * totals[i].shape[0] * totals[i].shape[1])
        inside = tl.full(totals[i].shape, True, tl.int1)
        total = add_partials(at, step, tl.num_programs(1), inside)
    return total


@triton.jit
def _offsets(totals, i: tl.constexpr, number):
    """Where sum i of part `number` lies: int32 [DOT_ROWS, BLOCK_N]."""
    height: tl.constexpr = totals[i].shape[0]
    width: tl.constexpr = totals[i].shape[1]
    inner = tl.arange(0, height)[:, None] * width + tl.arange(0, width)[None, :]
    return (number * len(totals) + i) * (height * width) + inner
