"""Attention over a paged cache, a tile of positions at a time.

Softmax is computed as its terms come in (Milakov, Gimelshein 2018; Dao et al. 2022): per row `top`
is the largest score so far times log2(e), `total` the sum of 2^(score - top), `acc` that sum with
each term times its value. Rows are (token, query head) pairs that share a key head.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_block_ids(table_ptr, start, last, BLOCK_SIZE: tl.constexpr, BLOCK_N: tl.constexpr):
    """Cache blocks of the positions from `start`, a multiple of BLOCK_SIZE or of BLOCK_N: int64,
    one if they lie in one block, else [BLOCK_N]. No table entry after that of `last` is read.

    Each id is read as two halves: the compiler makes loads of 4 bytes asynchronous, and then waits
    for all other copies under way whenever it needs one.
    """
    index = start // BLOCK_SIZE
    if BLOCK_N > BLOCK_SIZE:
        index += tl.arange(0, BLOCK_N) // BLOCK_SIZE
    index = tl.minimum(index, last // BLOCK_SIZE)
    halves = table_ptr.to(tl.pointer_type(tl.uint16)) + 2 * index
    return tl.load(halves).to(tl.int64) | (tl.load(halves + 1).to(tl.int64) << 16)


@triton.jit
def begin(BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr):
    """(top, total, acc) of no positions."""
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    return top, tl.zeros([BLOCK_M], tl.float32), tl.zeros([BLOCK_M, BLOCK_D], tl.float32)


@triton.jit
def attend(
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
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
    MAY_SEE_NONE: tl.constexpr = False,
):
    """(top, total, acc) with the BLOCK_N positions from `start` added, which lie in `blocks`.

    Pointers are those of the key head, strides those between blocks. Row i sees positions up to
    row_last[i]; slots after `last` may hold anything. Without MASKED all rows see all positions.
    MAY_SEE_NONE: a row may have seen no position after this step, see `_exponents`.
    """
    quantized: tl.constexpr = key_scales_ptr is not None
    n = tl.arange(0, BLOCK_N)
    # Positions after `last` read its slot again: their own may hold NaN, and 0 * NaN is NaN.
    first_slot = tl.multiple_of(start % BLOCK_SIZE, min(BLOCK_SIZE, BLOCK_N))
    slot = (first_slot + n) % BLOCK_SIZE
    safe_slot = tl.minimum(start + n, last) % BLOCK_SIZE if MASKED else slot

    k = _load_rows(keys_ptr + blocks * key_stride, safe_slot, HEAD_DIM, acc.shape[1])
    if quantized:
        v = _load_columns(
            values_ptr + blocks * value_stride, slot, HEAD_DIM, BLOCK_SIZE, acc.shape[1]
        )
        scale_at = blocks * scale_stride + safe_slot
        key_scale = tl.load(key_scales_ptr + scale_at)
        value_scale = tl.load(value_scales_ptr + scale_at)
    else:
        v = _load_rows(values_ptr + blocks * value_stride, safe_slot, HEAD_DIM, acc.shape[1])

    scores = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee")
    if quantized:
        scores *= key_scale[None, :]
    if MASKED:
        scores = tl.where((start + n)[None, :] <= row_last[:, None], scores, float("-inf"))
    terms, shrink, top = _exponents(scores, top, log2_scale, MAY_SEE_NONE)
    total = total * shrink + tl.sum(terms, 1)
    if quantized:
        terms *= value_scale[None, :]
        if MASKED and v.dtype.is_fp8():
            # Values are read 16 bytes at a time, so from no safe slots. To choose by position would
            # take a copy through shared memory; instead, codes that are no numbers become 0.
            v = v.to(tl.float16)
            v = tl.where(v == v, v, 0.0)
        v = tl.trans(v.to(q.dtype))
    acc = tl.dot(terms.to(q.dtype), v, acc * shrink[:, None], input_precision="ieee")
    return top, total, acc


@triton.jit
def _load_rows(base, slot, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """[BLOCK_N, BLOCK_D] from [BLOCK_SIZE, HEAD_DIM]; `base` is one pointer or [BLOCK_N] of
    them."""
    d = tl.arange(0, BLOCK_D)
    at = (base + slot * HEAD_DIM)[:, None] + d[None, :]
    if HEAD_DIM == BLOCK_D:
        return tl.load(at)
    return tl.load(at, mask=d[None, :] < HEAD_DIM, other=0.0)


@triton.jit
def _load_columns(
    base, slot, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, BLOCK_D: tl.constexpr
):
    """[BLOCK_D, BLOCK_N] from [HEAD_DIM, BLOCK_SIZE]."""
    d = tl.arange(0, BLOCK_D)
    at = (base + slot)[None, :] + (d * BLOCK_SIZE)[:, None]
    if HEAD_DIM == BLOCK_D:
        return tl.load(at)
    return tl.load(at, mask=d[:, None] < HEAD_DIM, other=0.0)


@triton.jit
def _exponents(scores, top, log2_scale, MAY_SEE_NONE: tl.constexpr):
    """2^(score - new top), the factor that takes older sums to the new top, the new top.

    A row that has seen no position has top -inf; where that may be, -inf - -inf is avoided.
    """
    new_top = tl.maximum(top, tl.max(scores, 1) * log2_scale)
    finite = new_top
    if MAY_SEE_NONE:
        finite = tl.where(new_top == float("-inf"), 0.0, new_top)
    terms = tl.exp2(scores * log2_scale - finite[:, None])
    return terms, tl.exp2(top - finite), new_top
