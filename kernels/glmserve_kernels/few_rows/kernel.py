"""A tile of a product of a few rows. It takes as long as reading the weight, once, at the full
speed of memory; so the programs of a product share K as well."""

from __future__ import annotations

import triton
import triton.language as tl

from glmserve_kernels.normed_rows.kernel import load_rows
from glmserve_kernels.quantized_matmul.kernel import sum_codes
from glmserve_kernels.split_k.kernel import add_partials, is_last_program

PREFETCHED = tl.constexpr(2)
"""Tiles of the weight that each program fetches before the kernel before it has ended: of a
ChatGLM2-6B's largest weight 14 MB, which is less than an H100's L2 cache and as much as its memory
gives in some 4 us."""
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
def _norm_scales(
    squares_ptr,
    rows,
    width,
    eps,
    PARTS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
):
    """1 / sqrt(mean of the squares + eps) of `rows` [BLOCK_M], whose sums of squares over parts of
    their columns are float32 [M, PARTS]."""
    part = tl.arange(0, BLOCK_PARTS)[None, :]
    at = squares_ptr + rows[:, None] * PARTS + part
    squares = tl.load(at, mask=part < PARTS, other=0.0)
    return tl.rsqrt(tl.sum(squares, 1) / width + eps)


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
    rows,
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
    BLOCK_K: tl.constexpr,
):
    """x @ weight^T over this program's part of K: float32 [BLOCK_M, BLOCK_N]. Programs call it
    before they read anything that another kernel writes.

    Args:
        norm_ptr: [K], a norm's weight: x is normed first, by the sums of squares at squares_ptr.
            None: x is taken as it is.
        scales_ptr: of a weight of codes, see sum_codes; None: the weight is of numbers.
        rows, outputs: int64 [BLOCK_M] and [BLOCK_N], rows of x and of the weight, which exist.
        split_tiles: tiles of BLOCK_K columns that each program of the second dimension takes.
    """
    _begin(weight_ptr, weight_stride, outputs, width, split_tiles, PLANES, BLOCK_K, PROGRAMMATIC)
    if norm_ptr is None:
        norm_scales = None
    else:
        norm_scales = _norm_scales(squares_ptr, rows, width, eps, PARTS, BLOCK_PARTS)
    first = tl.program_id(1) * split_tiles
    last = tl.minimum(first + split_tiles, tl.cdiv(width, BLOCK_K))
    if scales_ptr is not None:
        total = sum_codes(
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
        x_at = x_ptr + rows[:, None] * x_stride + columns
        weight_at = weight_ptr + outputs[:, None] * weight_stride + columns
        total = tl.zeros([rows.shape[0], outputs.shape[0]], tl.float32)
        for tile in range(first, last):
            k = tile * BLOCK_K
            inside = None if IS_EVEN else k + columns < width
            fill = None if IS_EVEN else 0.0
            weight = tl.load(weight_at + k, mask=inside, other=fill)
            norm_at = None if norm_ptr is None else norm_ptr + k + columns
            x = load_rows(x_at + k, norm_at, norm_scales, inside, fill)
            total = tl.dot(x, tl.trans(weight), total, input_precision="ieee")
    return total


@triton.jit
def hand_over(total, partial_ptr, arrivals_ptr):
    """Store this program's part of a tile's sum; whether all other parts are stored, too."""
    tiles = tl.num_programs(0)
    tile = tl.program_id(0)
    at = partial_ptr + _offsets(total, tl.program_id(1) * tiles + tile)
    tl.store(at, total)
    return is_last_program(arrivals_ptr + tile, tl.num_programs(1))


@triton.jit
def add_parts(total, partial_ptr):
    """The sum of a tile's parts, in the order of K. `total` is any of them."""
    tiles = tl.num_programs(0)
    at = partial_ptr + _offsets(total, tl.program_id(0))
    step = tiles * total.shape[0] * total.shape[1]
    inside = tl.full(total.shape, True, tl.int1)
    return add_partials(at, step, tl.num_programs(1), inside)


@triton.jit
def _offsets(total, number):
    """Where part `number` lies: int32 [BLOCK_M, BLOCK_N]."""
    height: tl.constexpr = total.shape[0]
    width: tl.constexpr = total.shape[1]
    inner = tl.arange(0, height)[:, None] * width + tl.arange(0, width)[None, :]
    return number * (height * width) + inner
