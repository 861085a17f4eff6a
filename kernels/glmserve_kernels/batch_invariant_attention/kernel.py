"""One kernel, with tiles of one shape, for one token of a sequence and for many.

A context is taken in pieces that begin at fixed positions. Softmax over a piece begins anew, and
pieces are merged in order, by one program that has them all or by that of their programs which ends
last: by the same operations, spelled out so that the compiler has no choice in rounding. Positions
that a token does not see change nothing, exactly: they add 0 and multiply by 1.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.batch_invariant_attention.split_plan import ROWS, tokens_per_tile
from glmserve_kernels.integers import next_power_of_2
from glmserve_kernels.paged_attention.kernel import attend, begin, load_block_ids
from glmserve_kernels.paged_attention.launch import (
    LOG2_E,
    METADATA,
    cache_strides,
    shape_class,
)
from glmserve_kernels.split_k.kernel import is_last_program
from glmserve_kernels.tiles import Tiles


@triton.jit
def _merge(top, total, acc, piece_top, piece_total, piece_acc):
    """(top, total, acc) with those of the next piece added. A row may see nothing of it, but each
    sees something of the first."""
    new_top = tl.maximum(top, piece_top)
    shrink = tl.exp2(top - new_top)
    piece_shrink = tl.exp2(piece_top - new_top)
    total = tl.fma(total, shrink, piece_total * piece_shrink)
    acc = tl.fma(acc, shrink[:, None], piece_acc * piece_shrink[:, None])
    return new_top, total, acc


@triton.jit
def _merge_pieces(
    out_ptr,
    top_ptr,
    total_ptr,
    count,
    step,
    row,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """(top, total, acc) of all `count` pieces of a token, the first at the pointers, the others
    each `step` rows after the one before. They are read past the cache of the multiprocessor, which
    may hold older ones.

    Args:
        row: [BLOCK_M], rows of a piece; those from GROUP on do not exist.
    """
    d = tl.arange(0, BLOCK_D)[None, :]
    row_inside = row < GROUP
    inside = row_inside[:, None] & (d < D)
    top, total, acc = begin(row.shape[0], BLOCK_D)
    for _ in range(count):
        at = out_ptr + row[:, None] * D + d
        piece_acc = tl.load(at, mask=inside, other=0.0, cache_modifier=".cg")
        piece_top = tl.load(top_ptr + row, mask=row_inside, other=0.0, cache_modifier=".cg")
        piece_total = tl.load(total_ptr + row, mask=row_inside, other=1.0, cache_modifier=".cg")
        top, total, acc = _merge(top, total, acc, piece_top, piece_total, piece_acc)
        out_ptr += step * D
        top_ptr += step
        total_ptr += step
    return top, total, acc


@triton.jit(do_not_specialize=["table_stride"], do_not_specialize_on_alignment=METADATA)
def _batch_invariant_attention(
    q_ptr,
    keys_ptr,
    values_ptr,
    key_scales_ptr,
    value_scales_ptr,
    tables_ptr,
    query_start_ptr,
    context_lens_ptr,
    items_ptr,
    item_start_ptr,
    partial_out_ptr,
    partial_top_ptr,
    partial_total_ptr,
    arrivals_ptr,
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
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    PIECE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    item = tl.program_id(0)
    kv_head = tl.program_id(1).to(tl.int64)
    sequence = tl.load(items_ptr + 4 * item).to(tl.int64)
    if sequence < 0:
        return
    first_query = tl.load(items_ptr + 4 * item + 1)
    first = tl.load(items_ptr + 4 * item + 2)
    last = tl.load(items_ptr + 4 * item + 3) - 1
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
    top, total, acc = begin(BLOCK_M, BLOCK_D)
    for piece in tl.range(first, last + 1, PIECE, num_stages=1):
        piece_top, piece_total, piece_acc = begin(BLOCK_M, BLOCK_D)
        next_blocks = load_block_ids(table, piece, last, BLOCK_SIZE, BLOCK_N)
        for start in range(piece, tl.minimum(piece + PIECE, last + 1), BLOCK_N):
            blocks = next_blocks
            next_blocks = load_block_ids(table, start + BLOCK_N, last, BLOCK_SIZE, BLOCK_N)
            piece_top, piece_total, piece_acc = attend(
                q,
                piece_top,
                piece_total,
                piece_acc,
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
                cached + query,
                log2_scale,
                HEAD_DIM,
                BLOCK_SIZE,
                BLOCK_N,
                MASKED=True,
                MAY_SEE_NONE=True,
            )
        top, total, acc = _merge(top, total, acc, piece_top, piece_total, piece_acc)

    first_item = tl.load(item_start_ptr + sequence)
    pieces = tl.load(item_start_ptr + sequence + 1) - first_item
    if (queries == 1) & (pieces > 1):
        step: tl.constexpr = KV_HEADS * GROUP
        own = item * step + kv_head * GROUP
        at = partial_out_ptr + own * HEAD_DIM + row[:, None] * HEAD_DIM + d[None, :]
        tl.store(at, acc, mask=inside)
        tl.store(partial_top_ptr + own + row, top, mask=row_inside)
        tl.store(partial_total_ptr + own + row, total, mask=row_inside)
        arrivals_ptr += first_item * KV_HEADS + kv_head
        if not is_last_program(arrivals_ptr, pieces):
            return
        own = first_item * step + kv_head * GROUP
        top, total, acc = _merge_pieces(
            partial_out_ptr + own * HEAD_DIM,
            partial_top_ptr + own,
            partial_total_ptr + own,
            pieces,
            step,
            row,
            GROUP,
            HEAD_DIM,
            BLOCK_D,
        )
    out_at = out_ptr + (token * out_stride + head * out_head_stride)[:, None] + d[None, :]
    found = acc / total[:, None]
    tl.store(out_at, found.to(out_ptr.dtype.element_ty), mask=inside)


def count_arrivals(num_items: int, kv_heads: int) -> int:
    """The least number of `arrivals`."""
    return num_items * kv_heads


def batch_invariant_attention(
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
    item_start: Tensor,
    piece: int,
    partial_out: Tensor,
    partial_top: Tensor,
    partial_total: Tensor,
    arrivals: Tensor,
    out: Tensor,
    scale: float,
    tiles: Tiles,
) -> None:
    """out = softmax(scale * q keys^T) values, each query over the positions up to its own.

    Bits of a token's result are the same for any `items` that `split_step` makes with one `piece`.
    Only the contents of tensors say how long sequences are, so that a captured graph can be
    replayed for others. Slots and blocks beyond a context may hold anything.

    Args:
        q: [T, Hq, D], float32, float16 or bfloat16; the last dimension contiguous.
        keys, values, key_scales, value_scales, block_tables: as in paged_decode.
        query_start, context_lens: as in paged_prefill.
        items: int32 [W, 4], item_start: int32 [B + 1]; see split_plan.split_step.
        piece: that `items` was made with.
        partial_out: float32 [W, Hq, D], contiguous; scratch.
        partial_top, partial_total: float32 [W, Hq], contiguous; scratch.
        arrivals: int32, at least `count_arrivals`, all 0 before and after.
        out: [T, Hq, D], written for tokens with items.
        scale: positive, of the scores.
    """
    heads, head_dim = q.shape[1:]
    kv_heads, block_size = keys.shape[1:3]
    group = heads // kv_heads
    _batch_invariant_attention[(items.shape[0], kv_heads)](
        q,
        keys,
        values,
        key_scales,
        value_scales,
        block_tables,
        query_start,
        context_lens,
        items,
        item_start,
        partial_out,
        partial_top,
        partial_total,
        arrivals,
        out,
        scale * LOG2_E,
        q.stride(0),
        q.stride(1),
        *cache_strides(keys, values, key_scales),
        block_tables.stride(0),
        out.stride(0),
        out.stride(1),
        KV_HEADS=kv_heads,
        GROUP=group,
        TOKENS=tokens_per_tile(group),
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        PIECE=piece,
        BLOCK_M=max(ROWS, next_power_of_2(group)),
        BLOCK_D=next_power_of_2(head_dim),
        **tiles[shape_class(keys)],
    )
