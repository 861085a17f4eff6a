"""One program per token and group of heads: of query heads, or of keys with their values."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import ceil_div, next_power_of_2
from glmserve_kernels.tiles import Tiles

LARGEST_CODE = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""Code of the largest magnitude of a vector in an 8-bit cache."""


@triton.jit
def load_rotation(cos_sin_ptr, positions_ptr, tokens, R: tl.constexpr, BLOCK: tl.constexpr):
    """[1, BLOCK], or [n, BLOCK] of `tokens` [n, 1]: cos and sin of pair i at 2i and 2i + 1, zeros
    from R on."""
    position = tl.load(positions_ptr + tokens).to(tl.int64)
    columns = tl.arange(0, BLOCK)[None, :]
    at = cos_sin_ptr + position * R + columns
    return tl.load(at, mask=columns < R, other=0.0)


@triton.jit
def rotate(x, cos_sin, R: tl.constexpr):
    """x [n, BLOCK] with the pairs of its first R columns rotated; cos_sin [n or 1, BLOCK]."""
    half: tl.constexpr = x.shape[1] // 2
    even, odd = tl.split(tl.reshape(x, [x.shape[0], half, 2]))
    cos, sin = tl.split(tl.reshape(cos_sin, [cos_sin.shape[0], half, 2]))
    turned = tl.join(even * cos - odd * sin, odd * cos + even * sin)
    columns = tl.arange(0, x.shape[1])[None, :]
    return tl.where(columns < R, tl.reshape(turned, x.shape), x)


@triton.jit
def _scale(x, LARGEST: tl.constexpr):
    """[HEADS]. NaN makes it infinite, so that the whole vector is NaN when it is read."""
    return tl.max(tl.where(x == x, tl.abs(x), float("inf")), 1) / LARGEST


@triton.jit
def _encode(x, scale, dtype: tl.constexpr, LARGEST: tl.constexpr):
    """Codes of x [HEADS, D]; 0 where the scale is 0 or infinite."""
    usable = (scale > 0) & (scale < float("inf"))
    codes = tl.where(usable[:, None], x, 0.0) / tl.where(usable, scale, 1.0)[:, None]
    if dtype == tl.int8:
        codes = tl.floor(codes + 0.5)
    return tl.minimum(tl.maximum(codes, -LARGEST), LARGEST).to(dtype)


@triton.jit
def store_vectors(
    x, cache_ptr, scales_ptr, chosen, at, scale_at, D: tl.constexpr, LARGEST: tl.constexpr
):
    """The `chosen` [n] of x [n, BLOCK] to cache_ptr + at [n, BLOCK]; their scales, if the cache has
    8 bits, to scales_ptr + scale_at [n]."""
    dtype: tl.constexpr = cache_ptr.dtype.element_ty
    inside = chosen[:, None] & (tl.arange(0, x.shape[1]) < D)[None, :]
    if LARGEST == 0:
        tl.store(cache_ptr + at, x.to(dtype), mask=inside)
    else:
        scale = _scale(x, LARGEST)
        tl.store(scales_ptr + scale_at, scale, mask=chosen)
        tl.store(cache_ptr + at, _encode(x, scale, dtype, LARGEST), mask=inside)


@triton.jit
def _rope_cache(
    qkv_ptr,
    cos_sin_ptr,
    positions_ptr,
    slots_ptr,
    keys_ptr,
    values_ptr,
    key_scales_ptr,
    value_scales_ptr,
    token_stride,
    keys_stride,
    values_stride,
    key_scales_stride,
    value_scales_stride,
    QUERY_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    D: tl.constexpr,
    R: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    LARGEST: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    HEADS: tl.constexpr,
    CACHED_HEADS: tl.constexpr,
):
    query_programs: tl.constexpr = (QUERY_HEADS + HEADS - 1) // HEADS
    token = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    token_ptr = qkv_ptr + token * token_stride

    if part < query_programs:
        heads = part * HEADS + tl.arange(0, HEADS)[:, None]
        columns = tl.arange(0, BLOCK_R)[None, :]
        inside = (heads < QUERY_HEADS) & (columns < R)
        at = token_ptr + heads * D + columns
        queries = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        cos_sin = load_rotation(cos_sin_ptr, positions_ptr, token, R, BLOCK_R)
        queries = rotate(queries, cos_sin, R)
        tl.store(at, queries.to(qkv_ptr.dtype.element_ty), mask=inside)
        return

    slot = tl.load(slots_ptr + token).to(tl.int64)
    if slot < 0:
        return
    block = slot // BLOCK_SIZE
    offset = (slot % BLOCK_SIZE).to(tl.int32)
    head = (part - query_programs) * CACHED_HEADS + tl.arange(0, CACHED_HEADS)
    heads = head[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    inside = (heads < KV_HEADS) & (columns < D)
    at = token_ptr + (QUERY_HEADS + heads) * D + columns
    keys = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    values = tl.load(at + KV_HEADS * D, mask=inside, other=0.0).to(tl.float32)
    cos_sin = load_rotation(cos_sin_ptr, positions_ptr, token, R, BLOCK_D)
    keys = rotate(keys, cos_sin, R)
    by_token = (heads * BLOCK_SIZE + offset) * D + columns
    by_dim = (heads * D + columns) * BLOCK_SIZE + offset
    scale_at = head * BLOCK_SIZE + offset
    is_cached = head < KV_HEADS
    store_vectors(
        keys,
        keys_ptr + block * keys_stride,
        key_scales_ptr + block * key_scales_stride,
        is_cached,
        by_token,
        scale_at,
        D,
        LARGEST,
    )
    store_vectors(
        values,
        values_ptr + block * values_stride,
        value_scales_ptr + block * value_scales_stride,
        is_cached,
        by_token if LARGEST == 0 else by_dim,
        scale_at,
        D,
        LARGEST,
    )


def rope_cache(
    *,
    qkv: Tensor,
    cos_sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    keys: Tensor,
    values: Tensor,
    key_scales: Tensor | None,
    value_scales: Tensor | None,
    num_heads: int,
    tiles: Tiles,
) -> None:
    """Rotate the queries in place; rotate the keys, and write them and the values into the cache.

    Adjacent pairs (2i, 2i + 1) of the first R dims are rotated, the others pass through; float32
    inside, rounded once. The keys in `qkv` stay as they are.

    An 8-bit cache holds codes: number = code * scale, scale = largest magnitude of the token's
    vector in this head / 127 (int8) or / 448 (float8_e4m3fn). A vector with a NaN or an infinity
    gets the scale infinity, so that it is NaN when it is read.

    Args:
        qkv: [T, Hq + 2*Hkv, D], all queries, all keys, all values; heads contiguous.
        cos_sin: float32 [max_positions, R/2, 2], contiguous.
        positions: int64 [T]
        slots: int64 [T], block * BLOCK_SIZE + offset; -1: nothing is cached.
        keys: [num_blocks, Hkv, BLOCK_SIZE, D], each block contiguous.
        values: the same, but [num_blocks, Hkv, D, BLOCK_SIZE] if it is an 8-bit cache.
        key_scales: float32 [num_blocks, Hkv, BLOCK_SIZE] of an 8-bit cache, each block contiguous.
        value_scales: the same.
        num_heads: Hq
    """
    num_tokens, _, dim = qkv.shape
    _, num_kv_heads, block_size, _ = keys.shape
    rotary = 2 * cos_sin.shape[1]
    constants = dict(tiles["any"])
    heads = constants.pop("HEADS")
    cached_heads = min(heads, next_power_of_2(num_kv_heads))
    programs = ceil_div(num_heads, heads) + ceil_div(num_kv_heads, cached_heads)
    _rope_cache[(num_tokens, programs)](
        qkv,
        cos_sin,
        positions,
        slots,
        keys,
        values,
        keys if key_scales is None else key_scales,
        values if value_scales is None else value_scales,
        qkv.stride(0),
        keys.stride(0),
        values.stride(0),
        0 if key_scales is None else key_scales.stride(0),
        0 if value_scales is None else value_scales.stride(0),
        QUERY_HEADS=num_heads,
        KV_HEADS=num_kv_heads,
        D=dim,
        R=rotary,
        BLOCK_SIZE=block_size,
        LARGEST=LARGEST_CODE.get(keys.dtype, 0.0),
        BLOCK_D=next_power_of_2(dim),
        BLOCK_R=next_power_of_2(rotary),
        HEADS=heads,
        CACHED_HEADS=cached_heads,
        **constants,
    )
