"""One program computes a tile of rows: some new tokens, with the query heads of one key head each.
So it reads keys and values once for all these rows."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import next_power_of_2
from glmserve_kernels.paged_attention.kernel import attend, begin, load_block_ids
from glmserve_kernels.paged_attention.launch import (
    LOG2_E,
    METADATA,
    cache_strides,
    shape_class,
)
from glmserve_kernels.tiles import Tiles


@triton.jit(do_not_specialize=["table_stride"], do_not_specialize_on_alignment=METADATA)
def _paged_prefill(
    q_ptr,
    keys_ptr,
    values_ptr,
    key_scales_ptr,
    value_scales_ptr,
    tables_ptr,
    query_start_ptr,
    context_lens_ptr,
    items_ptr,
    out_ptr,
    log2_scale,
    q_stride,
    q_head_stride,
    key_stride,
    key_head_stride,
    value_stride,
    value_head_stride,
    scale_stride,
    scale_head_stride,
    table_stride,
    out_stride,
    out_head_stride,
    GROUP: tl.constexpr,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tile = tl.program_id(0)
    kv_head = tl.program_id(1).to(tl.int64)
    sequence = tl.load(items_ptr + 2 * tile).to(tl.int64)
    if sequence < 0:
        return
    first_query = tl.load(items_ptr + 2 * tile + 1)
    query_start = tl.load(query_start_ptr + sequence)
    queries = tl.load(query_start_ptr + sequence + 1) - query_start
    cached = tl.load(context_lens_ptr + sequence) - queries

    row = tl.arange(0, BLOCK_M)
    query = first_query + row // GROUP
    head = kv_head * GROUP + row % GROUP
    d = tl.arange(0, BLOCK_D)
    row_inside = (row < TOKENS * GROUP) & (query < queries)
    inside = row_inside[:, None] & (d < HEAD_DIM)[None, :]
    token = (query_start + query).to(tl.int64)
    q_at = q_ptr + (token * q_stride + head * q_head_stride)[:, None] + d[None, :]
    q = tl.load(q_at, mask=inside, other=0.0)

    keys_ptr += kv_head * key_head_stride
    values_ptr += kv_head * value_head_stride
    if key_scales_ptr is not None:
        key_scales_ptr += kv_head * scale_head_stride
        value_scales_ptr += kv_head * scale_head_stride
    table = tables_ptr + sequence * table_stride
    row_last = cached + query
    last = cached + tl.minimum(first_query + TOKENS, queries) - 1
    seen_by_all = (cached + first_query + 1) // BLOCK_N * BLOCK_N
    top, total, acc = begin(BLOCK_M, BLOCK_D)
    next_blocks = load_block_ids(table, 0, last, BLOCK_SIZE, BLOCK_N)
    for start in range(0, seen_by_all, BLOCK_N):
        blocks = next_blocks
        next_blocks = load_block_ids(table, start + BLOCK_N, last, BLOCK_SIZE, BLOCK_N)
        top, total, acc = attend(
            q,
            top,
            total,
            acc,
            keys_ptr,
            values_ptr,
            key_scales_ptr,
            value_scales_ptr,
            blocks,
            key_stride,
            value_stride,
            scale_stride,
            start,
            last,
            row_last,
            log2_scale,
            HEAD_DIM,
            BLOCK_SIZE,
            BLOCK_N,
            MASKED=False,
        )
    for start in tl.range(seen_by_all, last + 1, BLOCK_N, num_stages=1):
        top, total, acc = attend(
            q,
            top,
            total,
            acc,
            keys_ptr,
            values_ptr,
            key_scales_ptr,
            value_scales_ptr,
            load_block_ids(table, start, last, BLOCK_SIZE, BLOCK_N),
            key_stride,
            value_stride,
            scale_stride,
            start,
            last,
            row_last,
            log2_scale,
            HEAD_DIM,
            BLOCK_SIZE,
            BLOCK_N,
            MASKED=True,
        )

    out_at = out_ptr + (token * out_stride + head * out_head_stride)[:, None] + d[None, :]
    tl.store(out_at, (acc / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)


def paged_prefill(
    *,
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    key_scales: Tensor | None,
    value_scales: Tensor | None,
    block_tables: Tensor,
    query_start: Tensor,
    context_lens: Tensor,
    items: Tensor,
    tokens_per_tile: int,
    out: Tensor,
    scale: float,
    tiles: Tiles,
) -> None:
    """out = softmax(scale * q keys^T) values, each query over the positions up to its own.

    Slots and blocks beyond a context may hold anything.

    Args:
        q: [T, Hq, D], float32, float16 or bfloat16; the last dimension contiguous.
        keys, values, key_scales, value_scales, block_tables: as in paged_decode.
        query_start: int32 [B + 1]; tokens of sequence b are query_start[b]..query_start[b+1]-1.
        context_lens: int32 [B], of each sequence with its new tokens, which are the last ones.
        items: int32 [n, 2], see split_plan.query_tiles; rows of -1 are skipped.
        tokens_per_tile: that `items` was made with.
        out: [T, Hq, D], written for the tokens in `items`.
        scale: positive, of the scores.
    """
    heads, head_dim = q.shape[1:]
    kv_heads, block_size = keys.shape[1:3]
    group = heads // kv_heads
    constants = dict(tiles[shape_class(keys)])
    constants["BLOCK_M"] = max(16, next_power_of_2(tokens_per_tile * group))
    _paged_prefill[(items.shape[0], kv_heads)](
        q,
        keys,
        values,
        key_scales,
        value_scales,
        block_tables,
        query_start,
        context_lens,
        items,
        out,
        scale * LOG2_E,
        q.stride(0),
        q.stride(1),
        *cache_strides(keys, values, key_scales),
        block_tables.stride(0),
        out.stride(0),
        out.stride(1),
        GROUP=group,
        TOKENS=tokens_per_tile,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        BLOCK_D=next_power_of_2(head_dim),
        **constants,
    )
