"""Shapes for rope_cache."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.rope_cache.kernel import rope_cache
from glmserve_kernels.rope_cache.reference import rope_cache as reference

_8_BIT = (torch.int8, torch.float8_e4m3fn)
_HALF = (torch.bfloat16, torch.float16)

# An exact value halfway between two codes may be rounded to either.
CODES = {torch.float32: 2e-3, torch.float16: 2e-3, torch.bfloat16: 5e-3}
"""Tolerances of an 8-bit cache."""


def make_arguments(
    make: Maker,
    *,
    tokens: int,
    heads: int,
    kv_heads: int,
    dim: int,
    rotary: int,
    block_size: int,
    cache: torch.dtype | None = None,
    padding: int = 0,
    max_positions: int = 100,
) -> Arguments:
    """Tokens at random positions and slots, every fourth of them padding, the second all zero.

    `cache`: None is the activations' dtype. `padding` more numbers than are used lie between two
    tokens, and between two blocks.
    """
    blocks = 1 + math.ceil(tokens / block_size)
    all_heads = heads + 2 * kv_heads
    qkv = make.normal(tokens, all_heads * dim + padding)
    qkv[1:2] = 0
    slots = [
        -1 if token % 4 == 3 else slot
        for token, slot in enumerate(make.permutation(blocks * block_size)[:tokens])
    ]
    angles = make.normal(max_positions, rotary // 2, dtype=torch.float32, scale=3.0)
    is_8_bit = cache in _8_BIT
    vectors = make.poisoned(2, blocks, kv_heads * block_size * dim + padding, dtype=cache)
    keys, values = vectors[..., : kv_heads * block_size * dim]
    scales = make.poisoned(2, blocks, kv_heads, block_size, dtype=torch.float32)
    key_shape = (kv_heads, block_size, dim)
    value_shape = (kv_heads, dim, block_size) if is_8_bit else key_shape
    return {
        "qkv": torch.unflatten(qkv[:, : all_heads * dim], 1, (all_heads, dim)),
        "cos_sin": torch.stack((angles.cos(), angles.sin()), dim=-1),
        "positions": make.integers(0, max_positions, tokens, dtype=torch.int64),
        "slots": make.given(slots, torch.int64),
        "keys": torch.unflatten(keys, 1, key_shape),
        "values": torch.unflatten(values, 1, value_shape),
        "key_scales": scales[0] if is_8_bit else None,
        "value_scales": scales[1] if is_8_bit else None,
        "num_heads": heads,
    }


def _case(
    tokens: int, heads: tuple[int, int], dims: tuple[int, int], block_size: int, padding: int = 0
) -> Case:
    """`heads`: of queries, of keys. `dims`: of a head, rotated."""
    suffix = "+padding" if padding else ""
    name = f"{tokens}x{heads[0]}+{heads[1]}x{dims[0]}-{dims[1]}-{block_size}{suffix}"
    return Case(name, _maker(tokens, heads, dims, block_size, padding=padding))


def _case_8_bit(
    tokens: int, heads: tuple[int, int], dims: tuple[int, int], block_size: int, cache: torch.dtype
) -> Case:
    make = _maker(tokens, heads, dims, block_size, cache=cache)
    name = f"{_short(cache)}-{tokens}x{heads[0]}+{heads[1]}x{dims[0]}-{dims[1]}-{block_size}"
    return Case(name, make, tolerance=CODES)


def _maker(
    tokens: int, heads: tuple[int, int], dims: tuple[int, int], block_size: int, **details: Any
) -> partial[Arguments]:
    return partial(
        make_arguments,
        tokens=tokens,
        heads=heads[0],
        kv_heads=heads[1],
        dim=dims[0],
        rotary=dims[1],
        block_size=block_size,
        **details,
    )


def _short(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def _served(tokens: int, heads: tuple[int, int], cache: torch.dtype | None = None) -> Case:
    vectors = ("LDG128", "STG128") if cache is None else ("LDG128",)
    return Case(
        f"{tokens}x{heads[0]}+{heads[1]}" + (f"-{_short(cache)}" if cache else ""),
        _maker(tokens, heads, (128, 64), 64, cache=cache, max_positions=32768),
        dtypes=_HALF,
        expects={"sm_80": vectors, "sm_90": vectors, "gfx942": ("LOAD128",)},
        chips=("sm_90",) if cache == torch.float8_e4m3fn else None,
    )


def _work(qkv: Tensor, cos_sin: Tensor, keys: Tensor, num_heads: int, **_: Any) -> Work:
    tokens, _all_heads, dim = qkv.shape
    kv_heads = keys.shape[1]
    rotary = 2 * cos_sin.shape[1]
    per_token = (
        2 * num_heads * rotary * qkv.element_size()
        + 2 * kv_heads * dim * (qkv.element_size() + keys.element_size())
        + rotary * cos_sin.element_size()
    )
    if keys.dtype in _8_BIT:
        per_token += 2 * kv_heads * 4
    return Work(bytes=tokens * per_token)


OPERATION = Operation(
    name="rope_cache",
    launch=rope_cache,
    reference=reference,
    outputs=("qkv", "keys", "values", "key_scales", "value_scales"),
    cases=(
        _case(1, (1, 1), (2, 2), 16),
        _case(5, (32, 2), (128, 64), 64),
        _case(3, (9, 3), (96, 96), 32, padding=3),
        _case(3, (12, 12), (10, 6), 128),
        _case_8_bit(9, (8, 2), (128, 64), 64, torch.int8),
        _case_8_bit(3, (3, 3), (22, 6), 16, torch.int8),
        _case_8_bit(9, (8, 2), (128, 64), 32, torch.float8_e4m3fn),
    ),
    served=(
        _served(1, (32, 2)),
        _served(2048, (32, 2)),
        _served(2048, (32, 32)),
        _served(1, (32, 2), torch.int8),
        _served(2048, (32, 2), torch.int8),
        _served(2048, (32, 2), torch.float8_e4m3fn),
    ),
    work=_work,
)
