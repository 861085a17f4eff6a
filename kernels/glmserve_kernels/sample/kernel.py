"""One program per row. It replaces logits by weights, then reads them once for each parameter in
use."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.gumbel_draw.kernel import draw
from glmserve_kernels.integers import ceil_div, next_power_of_2
from glmserve_kernels.likely_tokens.kernel import (
    find_threshold,
    last_equal,
    load_weights,
    sum_above,
)
from glmserve_kernels.most_likely_token.kernel import load_logits, most_likely, tile_ids
from glmserve_kernels.tiles import Tiles

_BLOCK = tl.constexpr(256)
"""Ids per block: first a block is drawn by its sum of weights, then an id within it."""
_FIRST_TOKEN = tl.constexpr(2**32)
"""Noise index of token 0; the noise index of block 0 is 0."""
_ROUNDING = tl.constexpr(0.999)
"""Tolerance when a float32 weight is compared with a float64 bound."""


@triton.jit
def _to_weights(
    logits_ptr, size, allowed_ptr, mask_ptr, masked, largest, temperature, TILE: tl.constexpr
):
    """Replace logits by weights, 1 for the most likely; their sum, in float64."""
    sums = tl.zeros([TILE // 32, 32], tl.float32)
    for start in range(0, size, TILE):
        logits = load_logits(logits_ptr, start, size, allowed_ptr, mask_ptr, masked, TILE)
        weights = tl.exp((logits - largest) / temperature)
        ids = tile_ids(start, TILE)
        tl.store(logits_ptr + ids, weights, mask=ids < size)
        sums += weights
    tl.debug_barrier()  # other threads read them
    return tl.sum(sums.to(tl.float64))


@triton.jit
def _nucleus(
    weights_ptr, size, threshold, equals, total, top_p, CUTS: tl.constexpr, TILE: tl.constexpr
):
    """As find_threshold: of what it kept, with the sum `total`, the largest with top_p of that."""
    goal = tl.maximum(top_p * total, 1.0)  # the most likely one is always kept
    above = total - equals * threshold.to(tl.float64)
    if above < goal:
        equals = tl.minimum(tl.ceil((goal - above) / threshold).to(tl.int32), equals)
    else:
        # n weights of less than 1/n of what is not kept are all among that.
        never_kept = ((1.0 - top_p) * total / size * _ROUNDING).to(tl.float32)
        floor = tl.maximum(threshold, never_kept)
        threshold, equals = find_threshold(weights_ptr, size, floor, goal, False, CUTS, TILE)
    return threshold, equals


@triton.jit
def _kept(weights_ptr, size, total, top_k, top_p, CUTS: tl.constexpr, TILE: tl.constexpr):
    """The smallest weight that top_k and top_p keep, and the last id among its equals."""
    threshold = tl.zeros([], tl.float32)
    equals = tl.zeros([], tl.int32)
    if (top_k > 0) & (top_k < size):
        goal = top_k.to(tl.float64)
        threshold, equals = find_threshold(weights_ptr, size, threshold, goal, True, CUTS, TILE)
        if top_p < 1.0:
            total = sum_above(weights_ptr, size, threshold, TILE)
            total += equals * threshold.to(tl.float64)
    if top_p < 1.0:
        threshold, equals = _nucleus(weights_ptr, size, threshold, equals, total, top_p, CUTS, TILE)
    last = -1
    if equals > 0:
        last = last_equal(weights_ptr, size, threshold, equals, TILE)
    return threshold, last


@triton.jit
def _keep(weights, ids, threshold, last, min_p):
    """The weights above `threshold`, and those equal to it up to the id `last`; else 0."""
    kept = (weights > threshold) | ((weights == threshold) & (ids <= last))
    return tl.where(kept & (weights >= min_p), weights, 0.0)


@triton.jit
def _draw_token(
    weights_ptr,
    size,
    threshold,
    last,
    min_p,
    key,
    BLOCKS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """A block by the sums of its weights, then an id within it."""
    blocks = tl.arange(0, BLOCKS)
    sums = tl.zeros([BLOCKS, COLUMNS], tl.float32)
    for start in range(0, _BLOCK, COLUMNS):
        ids = blocks[:, None] * _BLOCK + start + tl.arange(0, COLUMNS)[None, :]
        sums += _keep(load_weights(weights_ptr, ids, size), ids, threshold, last, min_p)
    block = draw(tl.sum(sums.to(tl.float64), 1), blocks.to(tl.int64), key)
    ids = block * _BLOCK + tl.arange(0, _BLOCK)
    weights = _keep(load_weights(weights_ptr, ids, size), ids, threshold, last, min_p)
    return block * _BLOCK + draw(weights.to(tl.float64), ids.to(tl.int64) + _FIRST_TOKEN, key)


@triton.jit
def _sample(
    logits_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    min_p_ptr,
    noise_key_ptr,
    mask_rows_ptr,
    masks_ptr,
    allowed_ptr,
    out_ptr,
    logits_stride,
    masks_stride,
    size,
    BLOCKS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CUTS: tl.constexpr,
    TILE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    row_ptr = logits_ptr + row * logits_stride
    mask_row = tl.load(mask_rows_ptr + row)
    masked = mask_row >= 0
    mask_ptr = masks_ptr + mask_row * masks_stride
    largest, token = most_likely(row_ptr, size, allowed_ptr, mask_ptr, masked, TILE)
    temperature = tl.load(temperature_ptr + row)
    if (token >= 0) & (temperature > 0.0):
        total = _to_weights(
            row_ptr, size, allowed_ptr, mask_ptr, masked, largest, temperature, TILE
        )
        top_k = tl.load(top_k_ptr + row)
        top_p = tl.load(top_p_ptr + row)
        threshold, last = _kept(row_ptr, size, total, top_k, top_p, CUTS, TILE)
        min_p = tl.load(min_p_ptr + row)
        key = tl.load(noise_key_ptr + row).to(tl.uint64, bitcast=True)
        token = _draw_token(row_ptr, size, threshold, last, min_p, key, BLOCKS, COLUMNS)
    tl.store(out_ptr + row, token.to(tl.int64))


def sample(
    *,
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    noise_key: Tensor,
    mask_rows: Tensor,
    masks: Tensor,
    allowed: Tensor,
    out: Tensor,
    tiles: Tiles,
) -> None:
    """Temperature, then top_k, top_p and min_p, then a draw by Gumbel noise.

    The weight of an id is exp((logit - largest logit) / temperature). top_k keeps so many of the
    largest, top_p the fewest of the largest of these that have that part of their sum; of equal
    weights those of lower ids. min_p keeps weights of at least that. Then a block of 256 ids is
    drawn by the sums of its weights, and an id within it: the largest log(weight) + noise, where
    blocks have the noise of their index, ids that of id + 2^32, see gumbel_draw.

    Args:
        logits: float32 [S, V], rows contiguous; overwritten.
        temperature: float32 [S]; 0: the largest logit is chosen, of equals the lowest id.
        top_k: int32 [S]; 0 keeps all.
        top_p: float64 [S]; 1 keeps all. As float32, 0.8 would be more than four of five equals.
        min_p: float32 [S]; 0 keeps all.
        noise_key: int64 [S], the bits of an unsigned number.
        mask_rows: int32 [S]: index of the row of `masks` that restricts the ids; -1: none.
        masks: int32 [m, ceil(V / 32)], m > 0: bit t % 32 of word t // 32 allows id t.
        allowed: int32 [ceil(V / 32)]: the same for all rows; other ids do not exist.
        out: int64 [S], written; -1 where there is a NaN or +inf, or nothing but -inf. Masked ids
            are -inf, if they are not NaN.
    """
    rows, size = logits.shape
    constants = tiles["16-byte loads" if size % 16 == 0 else "4-byte loads"]
    blocks = next_power_of_2(ceil_div(size, _BLOCK.value))
    _sample[(rows,)](
        logits,
        temperature,
        top_k,
        top_p,
        min_p,
        noise_key,
        mask_rows,
        masks,
        allowed,
        out,
        logits.stride(0),
        masks.stride(0),
        size,
        BLOCKS=blocks,
        COLUMNS=max(1, min(_BLOCK.value, constants["TILE"] // blocks)),
        **constants,
    )
