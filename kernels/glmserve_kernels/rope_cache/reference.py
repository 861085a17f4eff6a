"""Rotary position embedding (Su et al. 2021) of part of the dims, and a paged cache."""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve_kernels.rope_cache.kernel import LARGEST_CODE


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
) -> dict[str, Tensor]:
    """See kernel.rope_cache."""
    rotary = 2 * cos_sin.shape[1]
    rotated_heads = num_heads + keys.shape[1]
    turns = torch.view_as_complex(cos_sin.double())[positions, None]  # [T, 1, R/2]
    wide = qkv.double()
    pairs = wide[:, :rotated_heads, :rotary].reshape(len(qkv), rotated_heads, -1, 2)
    turned = torch.view_as_real(torch.view_as_complex(pairs) * turns).flatten(-2)
    wide[:, :rotated_heads, :rotary] = turned
    queries, new_keys, new_values = wide.tensor_split((num_heads, rotated_heads), dim=1)

    expected_qkv = _untouched(qkv)
    expected_qkv[:, :num_heads, :rotary] = queries[..., :rotary]
    expected = {"qkv": expected_qkv}
    if key_scales is None or value_scales is None:
        expected["keys"] = _cached(new_keys, keys, slots)
        expected["values"] = _cached(new_values, values, slots)
        return expected
    largest = LARGEST_CODE[keys.dtype]
    for name, numbers, cache, scales in (
        ("key", new_keys, keys, key_scales),
        ("value", new_values, values.mT, value_scales),
    ):
        scale = numbers.abs().amax(-1) / largest
        codes = numbers / scale.where(scale > 0, 1)[..., None]
        codes = codes.round() if keys.dtype == torch.int8 else codes.to(keys.dtype).double()
        expected[f"{name}_scales"] = _cached(scale, scales, slots)
        expected[f"{name}s"] = _cached(codes, cache, slots)
    expected["values"] = expected["values"].mT
    return expected


def _untouched(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, float("nan"), dtype=torch.float64)


def _cached(numbers: Tensor, cache: Tensor, slots: Tensor) -> Tensor:
    """`numbers` [T, Hkv, ...] at their slots of a cache [num_blocks, Hkv, BLOCK_SIZE, ...]."""
    expected = _untouched(cache)
    block_size = cache.shape[2]
    for token, slot in enumerate(slots.tolist()):
        if slot >= 0:
            expected[slot // block_size, :, slot % block_size] = numbers[token]
    return expected
