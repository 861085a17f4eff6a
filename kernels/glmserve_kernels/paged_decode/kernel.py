"""One program attends to a piece of one sequence's context for the query heads of one key head.

The pieces of a sequence are merged in a tree: neighbours, up to FAN of them, by that of their
programs which ends last; then what they became, by the last of these. One program alone would read
the results of a long context for longer than all programs attended to it. The tree and the order in
it are fixed, so results do not depend on which program ends first.
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
from glmserve_kernels.split_k.kernel import is_last_program
from glmserve_kernels.tiles import Tiles


@triton.jit
def _merge(
    out_ptr, lse_ptr, count, step, head, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr
):
    """(attention [BLOCK_M, BLOCK_D], lse [BLOCK_M]) over all positions of `count` results, the
    first at out_ptr and lse_ptr, the others each `step` rows after the one before. They are read
    past the cache of the multiprocessor, which may hold older ones.

    Args:
        head: [BLOCK_M], rows of a result; those from GROUP on do not exist.
    """
    d = tl.arange(0, BLOCK_D)[None, :]
    inside = (head < GROUP)[:, None] & (d < D)
    top = tl.full(head.shape, float("-inf"), tl.float32)
    total = tl.zeros(head.shape, tl.float32)
    acc = tl.zeros([head.shape[0], BLOCK_D], tl.float32)
    for _ in range(count):
        at = out_ptr + head[:, None] * D + d
        found = tl.load(at, mask=inside, other=0.0, cache_modifier=".cg")
        lse = tl.load(lse_ptr + head, mask=head < GROUP, other=0.0, cache_modifier=".cg")
        new_top = tl.maximum(top, lse)
        weight = tl.exp2(lse - new_top)
        shrink = tl.exp2(top - new_top)
        total = total * shrink + weight
        acc = acc * shrink[:, None] + found * weight[:, None]
        top = new_top
        out_ptr += step * D
        lse_ptr += step
    return acc / total[:, None], top + tl.log2(total)


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
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    FAN: tl.constexpr,
):
    item = tl.program_id(0)
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
    first_item = tl.load(item_start_ptr + sequence)
    end_item = tl.load(item_start_ptr + sequence + 1)
    if end_item - first_item > 1:
        lse = top + tl.log2(total)
        kv_heads: tl.constexpr = KV_HEADS
        step: tl.constexpr = KV_HEADS * GROUP
        own = item * step + kv_head * GROUP
        at = partial_out_ptr + own * HEAD_DIM + row[:, None] * HEAD_DIM + d[None, :]
        tl.store(at, found, mask=inside)
        tl.store(partial_lse_ptr + own + row, lse, mask=row < GROUP)

        group = item - (item - first_item) % FAN
        pieces = tl.minimum(FAN, end_item - group)
        arrivals_ptr += kv_head
        if not is_last_program(arrivals_ptr + group * kv_heads, pieces):
            return
        own = group * step + kv_head * GROUP
        found, lse = _merge(
            partial_out_ptr + own * HEAD_DIM,
            partial_lse_ptr + own,
            pieces,
            step,
            row,
            GROUP,
            HEAD_DIM,
            BLOCK_D,
        )
        groups = tl.cdiv(end_item - first_item, FAN)
        if groups > 1:
            tl.debug_barrier()  # all threads have read what is overwritten here
            at = partial_out_ptr + own * HEAD_DIM + row[:, None] * HEAD_DIM + d[None, :]
            tl.store(at, found, mask=inside)
            tl.store(partial_lse_ptr + own + row, lse, mask=row < GROUP)
            arrivals_ptr += (tl.num_programs(0) + first_item) * kv_heads
            if not is_last_program(arrivals_ptr, groups):
                return
            own = first_item * step + kv_head * GROUP
            found, _ = _merge(
                partial_out_ptr + own * HEAD_DIM,
                partial_lse_ptr + own,
                groups,
                FAN * step,
                row,
                GROUP,
                HEAD_DIM,
                BLOCK_D,
            )
    out_at = out_ptr + sequence * out_stride + head[:, None] * out_head_stride + d[None, :]
    tl.store(out_at, found.to(out_ptr.dtype.element_ty), mask=inside)


def count_arrivals(num_items: int, kv_heads: int) -> int:
    """The least number of `arrivals`: of the pieces that are merged first, and of what they
    become."""
    return 2 * num_items * kv_heads


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
    arrivals: Tensor,
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
        arrivals: int32, at least `count_arrivals`, all 0 before and after.
        out: [B, Hq, D], written for sequences with items.
        scale: positive, of the scores.
    """
    _, heads, head_dim = q.shape
    kv_heads, block_size = keys.shape[1:3]
    group = heads // kv_heads
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
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        BLOCK_M=max(16, next_power_of_2(group)),
        BLOCK_D=next_power_of_2(head_dim),
        **constants,
    )
