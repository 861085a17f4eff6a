"""Every number of the output is the same sum in the same order for any M.

K is cut into chunks. Each chunk is summed on its own by dots of one shape, and the chunks' sums are
added in their order. With few rows there is one program per chunk (`partial`), so that enough
programs read the weight at full speed; the one that ends last adds the sums. With many rows one
program computes all chunks of a tile. Both do the same arithmetic.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.split_k.kernel import add_partials, is_last_program
from glmserve_kernels.tiles import Tiles


@triton.jit
def _sum_chunk(
    x_at,
    weight_at,
    row_inside,
    start,
    end,
    width,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Product of columns start..end-1 [BLOCK_M, BLOCK_N]; x_at, weight_at: columns 0..BLOCK_K-1."""
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    columns = tl.arange(0, BLOCK_K)
    for k in range(start, end, BLOCK_K):
        inside = (k + columns < width)[None, :]
        x = tl.load(x_at + k, mask=row_inside & inside, other=0.0)
        weight = tl.load(weight_at + k, mask=inside, other=0.0)
        total = tl.dot(x, tl.trans(weight), total, input_precision="ieee")
    return total


@triton.jit(do_not_specialize=["num_rows"])
def _batch_invariant_matmul(
    x_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    partial_ptr,
    arrivals_ptr,
    x_stride,
    weight_stride,
    out_stride,
    num_rows,
    num_outputs,
    width,
    HAS_BIAS: tl.constexpr,
    CHUNK_PER_PROGRAM: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # Programs of neighbouring numbers share a tile of the weight.
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    outputs = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_inside = (rows < num_rows)[:, None]
    columns = tl.arange(0, BLOCK_K)[None, :]
    x_at = x_ptr + rows.to(tl.int64)[:, None] * x_stride + columns
    real_outputs = tl.minimum(outputs, num_outputs - 1).to(tl.int64)
    weight_at = weight_ptr + real_outputs[:, None] * weight_stride + columns
    inside = row_inside & (outputs < num_outputs)[None, :]

    if CHUNK_PER_PROGRAM:
        chunk = tl.program_id(2)
        start = chunk * CHUNK
        end = tl.minimum(start + CHUNK, width)
        total = _sum_chunk(
            x_at, weight_at, row_inside, start, end, width, BLOCK_M, BLOCK_N, BLOCK_K
        )
        split_stride = num_rows.to(tl.int64) * num_outputs
        partial_at = partial_ptr + rows.to(tl.int64)[:, None] * num_outputs + outputs[None, :]
        tl.store(partial_at + chunk * split_stride, total, mask=inside)
        tile = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        if not is_last_program(arrivals_ptr + tile, tl.num_programs(2)):
            return
        total = add_partials(partial_at, split_stride, tl.num_programs(2), inside)
    else:
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(0, width, CHUNK):
            end = tl.minimum(start + CHUNK, width)
            total += _sum_chunk(
                x_at, weight_at, row_inside, start, end, width, BLOCK_M, BLOCK_N, BLOCK_K
            )
    if HAS_BIAS:
        total += tl.load(bias_ptr + real_outputs).to(tl.float32)[None, :]
    at = out_ptr + rows.to(tl.int64)[:, None] * out_stride + outputs[None, :]
    tl.store(at, total.to(out_ptr.dtype.element_ty), mask=inside)


def count_chunks(width: int, tiles: Tiles) -> int:
    """How many chunks K = `width` has: the first dim of `partial`."""
    return ceil_div(width, tiles["any"]["CHUNK"])


def count_tiles(rows: int, outputs: int, tiles: Tiles) -> int:
    """Tiles of a product [rows, outputs]: the least number of `arrivals`."""
    constants = tiles["any"]
    return ceil_div(rows, constants["BLOCK_M"]) * ceil_div(outputs, constants["BLOCK_N"])


def batch_invariant_matmul(
    *,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    partial: Tensor | None,
    arrivals: Tensor | None,
    tiles: Tiles,
) -> None:
    """out = x @ weight^T + bias: float32 sums, rounded once.

    The bits of a row of `out` depend on this row of `x`, on K and on the tile sizes only: not on M,
    the row's index or `partial`.

    Args:
        x: [M, K], rows contiguous.
        weight: [N, K] of the same dtype, rows contiguous.
        bias: [N]
        out: [M, N] of any float dtype, written; rows contiguous.
        partial: float32 [count_chunks(K), M, N], contiguous, overwritten. It is faster for small M.
            None: one program computes all chunks of a tile.
        arrivals: int32, at least `count_tiles`, all 0 before and after. None if `partial` is.
    """
    rows, width = x.shape
    outputs = weight.shape[0]
    constants = tiles["any"]
    grid = (
        ceil_div(rows, constants["BLOCK_M"]),
        ceil_div(outputs, constants["BLOCK_N"]),
        1 if partial is None else count_chunks(width, tiles),
    )
    _batch_invariant_matmul[grid](
        x,
        weight,
        out if bias is None else bias,
        out,
        partial,
        arrivals,
        x.stride(0),
        weight.stride(0),
        out.stride(0),
        rows,
        outputs,
        width,
        HAS_BIAS=bias is not None,
        CHUNK_PER_PROGRAM=partial is not None,
        **constants,
    )
