"""One program attends to a piece of one sequence's context for the query heads of one key head.

A second kernel merges the results of a sequence's programs in order, so they do not depend on which
program ends first.
"""

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
def _paged_decode(
    q_ptr,
    keys_ptr,
    values_ptr,
    key_scales_ptr,
    value_scales_ptr,
    tables_ptr,
    items_ptr,
    item_start_ptr,
    partial_out_ptr,
    partial_lse_ptr,
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
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    item = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1).to(tl.int64)
    sequence = tl.load(items_ptr + 3 * item).to(tl.int64)
    if sequence < 0:
        return
    first = tl.load(items_ptr + 3 * item + 1)
    last = tl.load(items_ptr + 3 * item + 2) - 1

    row = tl.arange(0, BLOCK_M)
    head = kv_head * GROUP + row
    d = tl.arange(0, BLOCK_D)
    inside = (row < GROUP)[:, None] & (d < HEAD_DIM)[None, :]
    q_at = q_ptr + sequence * q_stride + head[:, None] * q_head_stride + d[None, :]
    q = tl.load(q_at, mask=inside, other=0.0)

    keys_ptr += kv_head * key_head_stride
    values_ptr += kv_head * value_head_stride
    if key_scales_ptr is not None:
        key_scales_ptr += kv_head * scale_head_stride
        value_scales_ptr += kv_head * scale_head_stride
    table = tables_ptr + sequence * table_stride
    row_last = tl.zeros([BLOCK_M], tl.int32) + last
    top, total, acc = begin(BLOCK_M, BLOCK_D)
    next_blocks = load_block_ids(table, first, last, BLOCK_SIZE, BLOCK_N)
    for start in range(first, last + 1, BLOCK_N):
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
            MASKED=True,
        )

    found = acc / total[:, None]
    if tl.load(item_start_ptr + sequence + 1) - tl.load(item_start_ptr + sequence) == 1:
        out_at = out_ptr + sequence * out_stride + head[:, None] * out_head_stride + d[None, :]
        tl.store(out_at, found.to(out_ptr.dtype.element_ty), mask=inside)
    else:
        at = item * tl.num_programs(1) * GROUP + head
        tl.store(partial_out_ptr + at[:, None] * HEAD_DIM + d[None, :], found, mask=inside)
        tl.store(partial_lse_ptr + at, top + tl.log2(total), mask=row < GROUP)


@triton.jit(do_not_specialize_on_alignment=METADATA)
def _merge_pieces(
    item_start_ptr,
    partial_out_ptr,
    partial_lse_ptr,
    out_ptr,
    out_stride,
    out_head_stride,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_ITEMS: tl.constexpr,
):
    sequence = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    first = tl.load(item_start_ptr + sequence)
    end = tl.load(item_start_ptr + sequence + 1)
    if end - first == 1:
        return
    d = tl.arange(0, BLOCK_D)
    top = float("-inf")
    total = 0.0
    acc = tl.zeros([BLOCK_D], tl.float32)
    for start in range(first, end, BLOCK_ITEMS):
        item = start + tl.arange(0, BLOCK_ITEMS)
        at = item.to(tl.int64) * tl.num_programs(1) + head
        lse = tl.load(partial_lse_ptr + at, mask=item < end, other=float("-inf"))
        inside = (item < end)[:, None] & (d < HEAD_DIM)[None, :]
        found = tl.load(
            partial_out_ptr + at[:, None] * HEAD_DIM + d[None, :], mask=inside, other=0.0
        )
        new_top = tl.maximum(top, tl.max(lse, 0))
        weights = tl.exp2(lse - new_top)
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(weights, 0)
        acc = acc * shrink + tl.sum(found * weights[:, None], 0)
        top = new_top
    # The total is 1 or more, but 0 without items: there is nothing to attend to.
    merged = acc / tl.maximum(total, 1.0)
    out_at = out_ptr + sequence * out_stride + head * out_head_stride + d
    tl.store(out_at, merged.to(out_ptr.dtype.element_ty), mask=d < HEAD_DIM)


def paged_decode(
    *,
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    key_scales: Tensor | None,
    value_scales: Tensor | None,
    block_tables: Tensor,
    items: Tensor,
    item_start: Tensor,
    partial_out: Tensor,
    partial_lse: Tensor,
    out: Tensor,
    scale: float,
    tiles: Tiles,
) -> None:
    """out = softmax(scale * q keys^T) values, for the newest token of each sequence.

    The lengths of contexts are in the contents of `items` and `item_start` only, so a captured
    graph can be replayed for other lengths. Slots and blocks beyond a context may hold any numbers.

    Args:
        q: [B, Hq, D], float32, float16 or bfloat16; the last dimension contiguous.
        keys: [num_blocks, Hkv, BLOCK_SIZE, D], the last two dimensions contiguous; of q's dtype, or
            int8 or float8_e4m3fn. Hq is a multiple of Hkv, BLOCK_SIZE a power of two.
        values: the same, but [num_blocks, Hkv, D, BLOCK_SIZE] if of 8 bits: so that a dot product
            over positions finds them side by side.
        key_scales, value_scales: float32 [num_blocks, Hkv, BLOCK_SIZE], of equal strides: what to
            multiply an 8-bit key or value with. None for others.
        block_tables: int32 [B, P], ids of each sequence's blocks; P blocks of the longest context.
        items: int32 [W, 3], item_start: int32 [B + 1]; see split_plan.split_contexts.
        partial_out: float32 [W, Hq, D], contiguous; scratch.
        partial_lse: float32 [W, Hq], contiguous; scratch.
        out: [B, Hq, D], written; 0 for sequences without items.
        scale: positive, of the scores.
    """
    batch, heads, head_dim = q.shape
    kv_heads, block_size = keys.shape[1:3]
    group = heads // kv_heads
    block_d = next_power_of_2(head_dim)
    constants = dict(tiles[shape_class(keys)])
    del constants["PROGRAMS"]  # the plan has it
    _paged_decode[(items.shape[0], kv_heads)](
        q,
        keys,
        values,
        key_scales,
        value_scales,
        block_tables,
        items,
        item_start,
        partial_out,
        partial_lse,
        out,
        scale * LOG2_E,
        q.stride(0),
        q.stride(1),
        *cache_strides(keys, values, key_scales),
        block_tables.stride(0),
        out.stride(0),
        out.stride(1),
        GROUP=group,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        BLOCK_M=max(16, next_power_of_2(group)),
        BLOCK_D=block_d,
        **constants,
    )
    _merge_pieces[(batch, heads)](
        item_start,
        partial_out,
        partial_lse,
        out,
        out.stride(0),
        out.stride(1),
        HEAD_DIM=head_dim,
        BLOCK_D=block_d,
        **tiles["merge"],
    )
