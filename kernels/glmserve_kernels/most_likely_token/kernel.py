"""One program per row."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.tiles import Tiles


@triton.jit
def tile_ids(start, TILE: tl.constexpr):
    """The ids from `start` on, a multiple of 32: [TILE / 32, 32], a row for each word of bits."""
    return start + 32 * tl.arange(0, TILE // 32)[:, None] + tl.arange(0, 32)[None, :]


@triton.jit
def _bits(words_ptr, start, size, TILE: tl.constexpr):
    """Whether the bit of each of tile_ids is set."""
    places = start // 32 + tl.arange(0, TILE // 32)[:, None]
    words = tl.load(words_ptr + places, mask=places * 32 < size, other=0)
    return (words >> tl.arange(0, 32)[None, :]) & 1 != 0


@triton.jit
def load_logits(logits_ptr, start, size, allowed_ptr, mask_ptr, masked, TILE: tl.constexpr):
    """Logits of tile_ids; -inf where they are not allowed. A mask does not hide NaN."""
    ids = tile_ids(start, TILE)
    logits = tl.load(logits_ptr + ids, mask=ids < size, other=float("-inf"))
    logits = tl.where(_bits(allowed_ptr, start, size, TILE), logits, float("-inf"))
    if masked:
        kept = _bits(mask_ptr, start, size, TILE) | (logits != logits)
        logits = tl.where(kept, logits, float("-inf"))
    return logits


@triton.jit
def most_likely(logits_ptr, size, allowed_ptr, mask_ptr, masked, TILE: tl.constexpr):
    """The largest logit and its lowest id; -1 if it is infinite or there is a NaN."""
    best = tl.full([TILE // 32, 32], float("-inf"), tl.float32)
    best_ids = tl.zeros([TILE // 32, 32], tl.int32)
    nans = tl.zeros([TILE // 32, 32], tl.int32)
    for start in range(0, size, TILE):
        logits = load_logits(logits_ptr, start, size, allowed_ptr, mask_ptr, masked, TILE)
        nans |= (logits != logits).to(tl.int32)
        best_ids = tl.where(logits > best, tile_ids(start, TILE), best_ids)
        best = tl.where(logits > best, logits, best)
    largest = tl.max(best)
    token = tl.min(tl.where(best == largest, best_ids, size))
    usable = (tl.abs(largest) < float("inf")) & (tl.max(nans) == 0)
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
