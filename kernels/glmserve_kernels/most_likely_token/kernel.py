"""One program per row."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.tiles import Tiles


@triton.jit
def _bits(words_ptr, ids, size):
    """Whether each id's bit is set."""
    words = tl.load(words_ptr + (ids >> 5), mask=ids < size, other=0)
    return (words >> (ids & 31)) & 1 != 0


@triton.jit
def load_logits(logits_ptr, ids, size, allowed_ptr, mask_ptr, masked):
    """Logits of `ids`; -inf where they are not allowed. A mask does not hide NaN."""
    there = (ids < size) & _bits(allowed_ptr, ids, size)
    logits = tl.load(logits_ptr + ids, mask=there, other=float("-inf"))
    if masked:
        kept = _bits(mask_ptr, ids, size) | (logits != logits)
        logits = tl.where(kept, logits, float("-inf"))
    return logits


@triton.jit
def most_likely(logits_ptr, size, allowed_ptr, mask_ptr, masked, TILE: tl.constexpr):
    """The largest logit and its lowest id; -1 if it is infinite or there is a NaN."""
    best = tl.full([TILE], float("-inf"), tl.float32)
    best_ids = tl.zeros([TILE], tl.int32)
    nans = tl.zeros([TILE], tl.int32)
    for start in range(0, size, TILE):
        ids = start + tl.arange(0, TILE)
        logits = load_logits(logits_ptr, ids, size, allowed_ptr, mask_ptr, masked)
        nans |= (logits != logits).to(tl.int32)
        best_ids = tl.where(logits > best, ids, best_ids)
        best = tl.where(logits > best, logits, best)
    largest = tl.max(best, 0)
    token = tl.min(tl.where(best == largest, best_ids, size), 0)
    usable = (tl.abs(largest) < float("inf")) & (tl.max(nans, 0) == 0)
    return largest, tl.where(usable, token, -1)


@triton.jit
def _most_likely_token(logits_ptr, allowed_ptr, out_ptr, logits_stride, size, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    row_ptr = logits_ptr + row * logits_stride
    _, token = most_likely(row_ptr, size, allowed_ptr, allowed_ptr, False, TILE)
    tl.store(out_ptr + row, token.to(tl.int64))


def most_likely_token(*, logits: Tensor, allowed: Tensor, out: Tensor, tiles: Tiles) -> None:
    """The id of each row's largest logit, of equals the lowest.

    Args:
        logits: float32 [S, V], rows contiguous.
        allowed: int32 [ceil(V / 32)]: bit t % 32 of word t // 32 says whether id t exists for this.
        out: int64 [S], written; -1 where there is a NaN or +inf, or nothing but -inf.
    """
    rows, size = logits.shape
    _most_likely_token[(rows,)](logits, allowed, out, logits.stride(0), size, **tiles["any"])
