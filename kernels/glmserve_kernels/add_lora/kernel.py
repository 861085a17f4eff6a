"""Two launches for all adapters of a step: first A x of every row, then B times that.

A program computes one tile of rows that have the same adapter. Sums over K are cut into parts,
which the second launch adds in their order.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.add_lora.row_plan import TILE_ROWS
from glmserve_kernels.integers import ceil_div
from glmserve_kernels.tiles import Tiles


@triton.jit(do_not_specialize=["num_rows"])
def _shrink(
    x_ptr,
    a_ptr,
    ranks_ptr,
    order_ptr,
    tiles_ptr,
    inner_ptr,
    x_stride,
    num_rows,
    width,
    most_ranks,
    part_width,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    tile_at = tiles_ptr + tl.program_id(0) * 3
    first_rank = tl.program_id(1) * BLOCK_R
    part = tl.program_id(2)
    slot = tl.load(tile_at)
    rank = tl.load(ranks_ptr + tl.maximum(slot, 0))
    if (slot >= 0) & (first_rank < rank):
        tile_rows = tl.arange(0, BLOCK_M)
        row_inside = tile_rows < tl.load(tile_at + 2)
        rows = tl.load(tile_at + 1) + tile_rows
        tokens = tl.load(order_ptr + rows, mask=row_inside, other=0).to(tl.int64)
        ranks = first_rank + tl.arange(0, BLOCK_R)
        columns = tl.arange(0, BLOCK_K)
        x_at = x_ptr + tokens[:, None] * x_stride + columns[None, :]
        a_rows = slot.to(tl.int64) * most_ranks + ranks
        a_at = a_ptr + a_rows[:, None] * width + columns[None, :]
        total = tl.zeros([BLOCK_M, BLOCK_R], tl.float32)
        start = part * part_width
        for k in range(start, tl.minimum(start + part_width, width), BLOCK_K):
            inside = (k + columns < width)[None, :]
            x = tl.load(x_at + k, mask=row_inside[:, None] & inside, other=0.0)
            a = tl.load(a_at + k, mask=inside, other=0.0)
            total = tl.dot(x, tl.trans(a), total, input_precision="ieee")
        inner_rows = part.to(tl.int64) * num_rows + rows
        inner_at = inner_ptr + inner_rows[:, None] * most_ranks + ranks[None, :]
        tl.store(inner_at, total, mask=row_inside[:, None])


@triton.jit(do_not_specialize=["num_rows"])
def _expand(
    inner_ptr,
    b_ptr,
    bias_ptr,
    ranks_ptr,
    order_ptr,
    tiles_ptr,
    y_ptr,
    y_stride,
    num_rows,
    num_outputs,
    most_ranks,
    PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    tile_at = tiles_ptr + tl.program_id(0) * 3
    slot = tl.load(tile_at)
    rank = tl.load(ranks_ptr + tl.maximum(slot, 0))
    if (slot >= 0) & (rank >= 0):
        tile_rows = tl.arange(0, BLOCK_M)
        row_inside = tile_rows < tl.load(tile_at + 2)
        rows = tl.load(tile_at + 1) + tile_rows
        tokens = tl.load(order_ptr + rows, mask=row_inside, other=0).to(tl.int64)
        outputs = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        output_inside = outputs < num_outputs
        b_rows = slot.to(tl.int64) * num_outputs + outputs
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for first_rank in range(0, rank, BLOCK_R):
            ranks = first_rank + tl.arange(0, BLOCK_R)
            inner = tl.zeros([BLOCK_M, BLOCK_R], tl.float32)
            for part in tl.static_range(PARTS):
                inner_rows = rows + part * num_rows.to(tl.int64)
                inner_at = inner_ptr + inner_rows[:, None] * most_ranks + ranks[None, :]
                inner += tl.load(inner_at, mask=row_inside[:, None], other=0.0)
            b_at = b_ptr + b_rows[:, None] * most_ranks + ranks[None, :]
            b = tl.load(b_at, mask=output_inside[:, None], other=0.0)
            total = tl.dot(inner.to(b.dtype), tl.trans(b), total, input_precision="ieee")
        bias = tl.load(bias_ptr + b_rows, mask=output_inside, other=0.0).to(tl.float32)
        y_at = y_ptr + tokens[:, None] * y_stride + outputs[None, :]
        inside = row_inside[:, None] & output_inside[None, :]
        y = tl.load(y_at, mask=inside, other=0.0).to(tl.float32)
        y += total + bias[None, :]
        tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=inside)


def padded_rank(rank: int, tiles: Tiles) -> int:
    """R of the arguments for adapters of up to `rank`."""
    block = tiles["any"]["BLOCK_R"]
    return -(-rank // block) * block


def count_parts(width: int, tiles: Tiles) -> int:
    """Parts of K = `width` that are summed alone: the first dim of `inner`."""
    constants = tiles["any"]
    blocks = ceil_div(width, constants["BLOCK_K"])
    return ceil_div(blocks, ceil_div(blocks, constants["PARTS"]))


def add_lora(
    *,
    x: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    bias: Tensor,
    ranks: Tensor,
    order: Tensor,
    row_tiles: Tensor,
    inner: Tensor,
    tiles: Tiles,
) -> None:
    """y[row] += b[slot] @ (a[slot] @ x[row]) + bias[slot] for each row that has a slot.

    Sums are float32; A x is rounded to the dtype of b. The bits of a row's result do not depend on
    the other rows.

    Args:
        x: [T, K], rows contiguous.
        y: [T, N], changed; rows contiguous.
        a: [S, R, K], contiguous; R from `padded_rank`; rows from a slot's rank on are 0.
        b: [S, N, R], contiguous; columns from a slot's rank on are 0.
        bias: [S, N], contiguous.
        ranks: int32 [S]; 0: there is only a bias, -1: there is nothing.
        order: int32 [n], the rows that have slots, those of a slot side by side.
        row_tiles: int32 [M, 3], from `plan_tiles`.
        inner: float32 [count_parts(K), n, R], contiguous, overwritten.
    """
    constants = tiles["any"]
    block_n, block_r, block_k = (constants[f"BLOCK_{dim}"] for dim in "NRK")
    width, outputs, (parts, num_rows, most_ranks) = x.shape[1], y.shape[1], inner.shape
    count = row_tiles.shape[0]
    if count == 0:
        return
    _shrink[(count, most_ranks // block_r, parts)](
        x,
        a,
        ranks,
        order,
        row_tiles,
        inner,
        x.stride(0),
        num_rows,
        width,
        most_ranks,
        ceil_div(ceil_div(width, block_k), parts) * block_k,
        BLOCK_M=TILE_ROWS,
        BLOCK_R=block_r,
        BLOCK_K=block_k,
        num_warps=constants["shrink_warps"],
        num_stages=constants["num_stages"],
    )
    _expand[(count, ceil_div(outputs, block_n))](
        inner,
        b,
        bias,
        ranks,
        order,
        row_tiles,
        y,
        y.stride(0),
        num_rows,
        outputs,
        most_ranks,
        PARTS=parts,
        BLOCK_M=TILE_ROWS,
        BLOCK_N=block_n,
        BLOCK_R=block_r,
        num_warps=constants["num_warps"],
        num_stages=constants["num_stages"],
    )
