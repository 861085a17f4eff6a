"""Number formats of the KV cache of torch attention: that of the activations, or int8.

One layer's cache is laid out [slots + 1, 2*Hkv, D], the key heads of a token before its value
heads, so that one index_copy_ stores a step and one index_select gathers a batch. The last slot is
the null slot, which is never written and always zero. Padding beyond a sequence's context reads the
null slot. So stale values of an earlier sequence in a block, even a NaN, cannot reach a result.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from glmserve.config import KvCacheDType
from glmserve.errors import OptionError
from glmserve.ops.attention.backend import Cache
from glmserve_cpu_kernels.zeros import untouched_zeros

_LARGEST_CODE = 127


class KvStore(Protocol[Cache]):
    """Writes and reads K and V of one layer, in one number format."""

    is_exact: bool
    """Whether numbers are read back unchanged."""

    def head_bytes(self, head_dim: int) -> int:
        """Bytes of one head's vector."""
        ...

    def allocate(
        self, num_slots: int, num_heads: int, head_dim: int, device: torch.device
    ) -> Cache:
        """A zeroed cache of `num_slots` slots and the null slot."""
        ...

    def null_slot(self, cache: Cache) -> int:
        """Index of the slot that is always zero."""
        ...

    def write(self, cache: Cache, slots: Tensor, key_values: Tensor) -> None:
        """Store `key_values` [T, heads, D] at int64 `slots` [T]."""
        ...

    def read(self, cache: Cache, slots: Tensor) -> Tensor:
        """The numbers at int64 `slots` [n]: [n, heads, D]."""
        ...


class ExactStore:
    """Stores numbers in the dtype of the activations."""

    is_exact = True

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def head_bytes(self, head_dim: int) -> int:
        return head_dim * self._dtype.itemsize

    def allocate(
        self, num_slots: int, num_heads: int, head_dim: int, device: torch.device
    ) -> Tensor:
        return _zeros((num_slots + 1, num_heads, head_dim), self._dtype, device)

    def null_slot(self, cache: Tensor) -> int:
        return cache.shape[0] - 1

    def write(self, cache: Tensor, slots: Tensor, key_values: Tensor) -> None:
        cache.index_copy_(0, slots, key_values)

    def read(self, cache: Tensor, slots: Tensor) -> Tensor:
        return cache.index_select(0, slots)


class Int8Cache(NamedTuple):
    """One layer's cache; number = code * scale."""

    codes: Tensor
    """int8 [slots + 1, heads, D]"""
    scales: Tensor
    """float32 [slots + 1, heads, 1]: largest magnitude / 127."""


class Int8Store:
    """Stores one byte per number and one scale per token and head.

    Numbers are rounded to the nearest code. The relative error (Frobenius norm) of normally
    distributed vectors is 0.9 %.
    """

    is_exact = False

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype  # of the numbers that `read` returns

    def head_bytes(self, head_dim: int) -> int:
        return head_dim + torch.float32.itemsize

    def allocate(
        self, num_slots: int, num_heads: int, head_dim: int, device: torch.device
    ) -> Int8Cache:
        shape = (num_slots + 1, num_heads)
        return Int8Cache(
            _zeros((*shape, head_dim), torch.int8, device),
            _zeros((*shape, 1), torch.float32, device),
        )

    def null_slot(self, cache: Int8Cache) -> int:
        return cache.codes.shape[0] - 1

    def write(self, cache: Int8Cache, slots: Tensor, key_values: Tensor) -> None:
        wide = key_values.float()
        scales = wide.abs().amax(-1, keepdim=True).div_(_LARGEST_CODE)
        codes = (wide / scales.clamp(min=torch.finfo(torch.float32).tiny)).round_()
        cache.codes.index_copy_(0, slots, codes.to(torch.int8))
        cache.scales.index_copy_(0, slots, scales)

    def read(self, cache: Int8Cache, slots: Tensor) -> Tensor:
        codes = cache.codes.index_select(0, slots)
        return (codes * cache.scales.index_select(0, slots)).to(self._dtype)


def make_store(kind: KvCacheDType, dtype: torch.dtype) -> KvStore[Any]:
    """The store for --kv-cache-dtype.

    Args:
        kind: the value of the option.
        dtype: of activations.

    Raises:
        OptionError: torch attention does not support this format.
    """
    if kind == "auto":
        return ExactStore(dtype)
    if kind == "int8":
        return Int8Store(dtype)
    raise OptionError(
        f"--kv-cache-dtype {kind}: only the triton attention backend has it, on GPUs that compute "
        "with float8; int8 works everywhere"
    )


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A zeroed tensor; a CPU's takes memory where it is first used."""
    if device.type == "cpu":
        return untouched_zeros(shape, dtype)
    return torch.zeros(shape, dtype=dtype, device=device)
