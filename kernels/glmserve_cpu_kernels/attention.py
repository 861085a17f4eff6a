"""Paged attention; src/attention.cpp has the layout of the cache and the arithmetic.

A token's result has the same bits for any cut of its sequence into steps and any other tokens in a
step.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve_cpu_kernels.library import TYPES, CAttentionStep, CKvCache, Library
from glmserve_cpu_kernels.zeros import release, untouched_zeros

SUBBLOCK = 32
"""Token slots that the kernels take together; a block of the cache is one subblock or several."""

LARGEST_DIM = 512
"""Largest head dim."""

_PANEL = 32

Int64Array = NDArray[np.int64]


class KvCache:
    """One layer's K and V, zeroed.

    Args:
        num_subblocks: of SUBBLOCK slots each.
        dtype: float32 or bfloat16, of activations.
        is_int8: numbers are kept as codes, with one scale per token and head.
    """

    def __init__(
        self,
        library: Library,
        num_subblocks: int,
        kv_heads: int,
        dim: int,
        dtype: torch.dtype,
        *,
        is_int8: bool,
    ) -> None:
        self.dim = dim
        heads = (num_subblocks, kv_heads, 2)
        stored = torch.int8 if is_int8 else dtype
        self.numbers = untouched_zeros((*heads, _padded(dim) * SUBBLOCK), stored)
        library.ask_for_huge_pages(self.numbers)
        self.scales = untouched_zeros((*heads, SUBBLOCK), torch.float32) if is_int8 else None
        scales = None if self.scales is None else self.scales.data_ptr()
        self._struct = CKvCache(
            TYPES[dtype], is_int8, kv_heads, dim, self.numbers.data_ptr(), scales
        )
        self.address = ctypes.addressof(self._struct)

    def release(self, num_subblocks: int) -> None:
        """Give the memory of the first blocks back to the system until it is written again."""
        for tensor in (self.numbers, self.scales):
            if tensor is not None:
                release(tensor, num_subblocks * tensor[0].nbytes)


def token_bytes(kv_heads: int, dim: int, dtype: torch.dtype, *, is_int8: bool) -> int:
    """Bytes that a token takes in one layer's KvCache."""
    number = 1 if is_int8 else dtype.itemsize
    return 2 * kv_heads * (_padded(dim) * number + (4 if is_int8 else 0))


class Step:
    """The plan that all layers of a step share. T tokens, B sequences; arrays are int64.

    Args:
        slots: [T] cache slot of each token.
        last_visible: [T] position of the last token that each attends to.
        query_start: [B + 1] index of each sequence's first token; then T.
        contexts: [B] tokens of the sequence in the cache.
        block_tables: [B, n] block ids.
        block_size: token slots of a block, a multiple of SUBBLOCK.
        hidden: [B] slots at a sequence's beginning that no token attends to. K and V there must be
            finite. None: there are none.
    """

    def __init__(
        self,
        slots: Int64Array,
        last_visible: Int64Array,
        query_start: Int64Array,
        contexts: Int64Array,
        block_tables: Int64Array,
        block_size: int,
        hidden: Int64Array | None = None,
    ) -> None:
        given = [slots, last_visible, query_start, contexts, block_tables]
        given += [] if hidden is None else [hidden]
        self._arrays = [np.ascontiguousarray(array, dtype=np.int64) for array in given]
        self._struct = CAttentionStep(
            *(len(slots), len(contexts), block_tables.shape[1], block_size // SUBBLOCK),
            *(array.ctypes.data for array in self._arrays),
        )
        self.address = ctypes.addressof(self._struct)

    def take(self, other: Step) -> None:
        """Become an equal of another plan. The address stays."""
        self._arrays = other._arrays
        ctypes.memmove(self.address, other.address, ctypes.sizeof(CAttentionStep))


def write(library: Library, cache: KvCache, step: Step, key_values: Tensor) -> None:
    """Store `key_values` [T, 2*Hkv, D], key heads before value heads; the stride of T is free."""
    library.functions.glm_write(
        cache.address, step.address, key_values.data_ptr(), key_values.stride(0)
    )


def attend(library: Library, cache: KvCache, step: Step, qkv: Tensor, num_kv_heads: int) -> Tensor:
    """Attend from the queries of qkv [T, Hq + 2*Hkv, D] to K and V in the cache.

    Returns:
        [T, Hq, D]
    """
    tokens, heads, dim = qkv.shape
    out = torch.empty((tokens, heads - 2 * num_kv_heads, dim), dtype=qkv.dtype)
    library.functions.glm_attend(cache.address, step.address, qkv.data_ptr(), heads, out.data_ptr())
    return out


def _padded(dim: int) -> int:
    return -(-dim // _PANEL) * _PANEL
