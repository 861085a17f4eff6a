"""Paged attention; src/attention.cpp has the layout of the cache and the arithmetic.

A token's result is the same bits however its sequence was cut into steps and whatever else is in a
step.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve_cpu_kernels.library import TYPES, CAttentionStep, CKvCache, Library

BLOCK = 32
"""Token slots of a block: a page of the cache is one, or several."""

LARGEST_DIM = 512
"""Of a head."""

_PANEL = 32

Int64Array = NDArray[np.int64]


class KvCache:
    """One layer's K and V, zeroed.

    Args:
        num_blocks: of BLOCK slots.
        dtype: float32 or bfloat16, of activations.
        is_int8: numbers are kept as codes, with one scale per token and head.
    """

    def __init__(
        self,
        library: Library,
        num_blocks: int,
        kv_heads: int,
        dim: int,
        dtype: torch.dtype,
        *,
        is_int8: bool,
    ) -> None:
        self.dim = dim
        heads = (num_blocks, kv_heads, 2)
        stored = torch.int8 if is_int8 else dtype
        self.numbers = torch.zeros((*heads, _padded(dim) * BLOCK), dtype=stored)
        library.ask_for_large_pages(self.numbers)  # zeros are written when they are first needed
        self.scales = torch.zeros((*heads, BLOCK)) if is_int8 else None
        scales = None if self.scales is None else self.scales.data_ptr()
        self._struct = CKvCache(
            TYPES[dtype], is_int8, kv_heads, dim, self.numbers.data_ptr(), scales
        )
        self.address = ctypes.addressof(self._struct)


def token_bytes(kv_heads: int, dim: int, dtype: torch.dtype, *, is_int8: bool) -> int:
    """What a token takes in a KvCache."""
    number = 1 if is_int8 else dtype.itemsize
    return 2 * kv_heads * (_padded(dim) * number + (4 if is_int8 else 0))


class Step:
    """What all layers of a step share. T tokens, B sequences; arrays are int64.

    Args:
        slots: [T] where each token goes.
        last_visible: [T] position of the last token that each attends to.
        query_start: [B + 1] where each sequence's tokens begin.
        contexts: [B] tokens of the sequence in the cache.
        block_tables: [B, n] pages of `page` slots each.
    """

    def __init__(
        self,
        slots: Int64Array,
        last_visible: Int64Array,
        query_start: Int64Array,
        contexts: Int64Array,
        block_tables: Int64Array,
        page: int,
    ) -> None:
        given = (slots, last_visible, query_start, contexts, block_tables)
        self._arrays = [np.ascontiguousarray(array, dtype=np.int64) for array in given]
        self._struct = CAttentionStep(
            *(len(slots), len(contexts), block_tables.shape[1], page // BLOCK),
            *(array.ctypes.data for array in self._arrays),
        )
        self.address = ctypes.addressof(self._struct)


def write(library: Library, cache: KvCache, step: Step, key_values: Tensor) -> None:
    """Store [T, 2*Hkv, D], the key heads before the value heads; tokens may lie apart."""
    library.functions.glm_write(
        cache.address, step.address, key_values.data_ptr(), key_values.stride(0)
    )


def attend(library: Library, cache: KvCache, step: Step, qkv: Tensor, num_kv_heads: int) -> Tensor:
    """[T, Hq, D] from the queries of qkv [T, Hq + 2*Hkv, D], whose K and V are in the cache."""
    tokens, heads, dim = qkv.shape
    out = torch.empty((tokens, heads - 2 * num_kv_heads, dim), dtype=qkv.dtype)
    library.functions.glm_attend(cache.address, step.address, qkv.data_ptr(), heads, out.data_ptr())
    return out


def _padded(dim: int) -> int:
    return -(-dim // _PANEL) * _PANEL
