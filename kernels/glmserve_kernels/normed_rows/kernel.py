"""Tiles of rows, normed or as they are, and their products."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rows_at(x_ptr, x_stride, rows, columns):
    """Where these columns [1, n] of tiles of rows lie: for each of the tuple a tile of pointers."""
    found = ()
    for i in tl.static_range(len(rows)):
        found = found + (x_ptr + rows[i][:, None] * x_stride + columns,)
    return found


@triton.jit
def no_products(rows, outputs):
    """Sums of nothing, for add_products: for each tile of rows float32 [BLOCK_M, BLOCK_N]."""
    found = ()
    for i in tl.static_range(len(rows)):
        found = found + (tl.zeros([rows[i].shape[0], outputs.shape[0]], tl.float32),)
    return found


@triton.jit
def add_products(totals, x_at, start, norm_at, norm_scales, inside, fill, weight):
    """totals + x @ weight^T, for each tile of rows.

    Args:
        x_at: tiles of pointers [BLOCK_M, n]; what lies `start` behind them is read, where `inside`.
        norm_at: [1, n], a norm's weight: rows of x are multiplied by it and by norm_scales, for
            each tile [BLOCK_M], in float32, and rounded. None: they are as they are.
        weight: [BLOCK_N, n]
    """
    if norm_at is not None:
        # Read twice: of one row, each thread would read only a number, and take as few of x.
        norm = tl.load(tl.broadcast_to(norm_at, [2, norm_at.shape[1]]), mask=inside, other=fill)
        norm = norm.to(tl.float32)[None, :, :]
    found = ()
    for i in tl.static_range(len(x_at)):
        x = tl.load(x_at[i] + start, mask=inside, other=fill)
        if norm_at is not None:
            scaled = x.to(tl.float32) * norm_scales[i][:, None]
            scaled = tl.reshape(scaled, [x.shape[0] // 2, 2, x.shape[1]]) * norm
            x = tl.reshape(scaled, x.shape).to(x.dtype)
        found = found + (tl.dot(x, tl.trans(weight), totals[i], input_precision="ieee"),)
    return found
