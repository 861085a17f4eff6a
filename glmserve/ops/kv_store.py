"""How numbers are kept in the KV cache of the torch attention: as they are, or as int8.

One layer's cache is laid out [slots + 1, 2*Hkv, D], the key heads of a token before its value
heads, so that one index_copy_ stores a step and one index_select gathers a batch. The last slot is
the null slot: never written, always zero, it stands in for everything beyond a sequence's context.
So nothing that an earlier owner left in a block (not even a NaN) can reach a result.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from glmserve.config import KvCacheDType
from glmserve.errors import OptionError

_LARGEST_CODE = 127


class KvStore(Protocol):
    """Reads back what it wrote, up to its precision."""

    is_exact: bool
    """Whether a number read is the number written."""

    def head_bytes(self, head_dim: int) -> int:
        """Bytes of one head's vector."""
        ...

    def allocate(self, num_slots: int, num_heads: int, head_dim: int, device: torch.device) -> Any:
        """Room for `num_slots` tokens and the null slot, zeroed."""
        ...

    def null_slot(self, cache: Any) -> int:
        """Index of the slot that is always zero."""
        ...

    def write(self, cache: Any, slots: Tensor, key_values: Tensor) -> None:
        """Store [T, heads, D] at int64 `slots` [T]."""
        ...

    def read(self, cache: Any, slots: Tensor) -> Tensor:
        """Numbers at int64 `slots` [n]: [n, heads, D]."""
        ...


class ExactStore:
    """Keeps numbers in the dtype of the activations."""

    is_exact = True

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def head_bytes(self, head_dim: int) -> int:
        return head_dim * self._dtype.itemsize

    def allocate(
        self, num_slots: int, num_heads: int, head_dim: int, device: torch.device
    ) -> Tensor:
        return torch.zeros((num_slots + 1, num_heads, head_dim), dtype=self._dtype, device=device)

    def null_slot(self, cache: Tensor) -> int:
        return cache.shape[0] - 1

    def write(self, cache: Tensor, slots: Tensor, key_values: Tensor) -> None:
        cache.index_copy_(0, slots, key_values)

    def read(self, cache: Tensor, slots: Tensor) -> Tensor:
        return cache.index_select(0, slots)


class Int8Cache(NamedTuple):
    """number = code * scale."""

    codes: Tensor
    """int8 [slots + 1, heads, D]"""
    scales: Tensor
    """float32 [slots + 1, heads, 1]: largest magnitude / 127."""


class Int8Store:
    """Keeps one byte per number and one scale per token and head.

    Rounds to the nearest code: the relative error of normally distributed vectors is 0.9 %.
    """

    is_exact = False

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype  # of what is read

    def head_bytes(self, head_dim: int) -> int:
        return head_dim + torch.float32.itemsize

    def allocate(
        self, num_slots: int, num_heads: int, head_dim: int, device: torch.device
    ) -> Int8Cache:
        shape = (num_slots + 1, num_heads)
        return Int8Cache(
            torch.zeros((*shape, head_dim), dtype=torch.int8, device=device),
            torch.zeros((*shape, 1), dtype=torch.float32, device=device),
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


def make_store(kind: KvCacheDType, dtype: torch.dtype) -> KvStore:
    """The store for --kv-cache-dtype.

    Raises:
        OptionError: torch attention does not have it.
    """
    if kind == "auto":
        return ExactStore(dtype)
    if kind == "int8":
        return Int8Store(dtype)
    raise OptionError(
        f"--kv-cache-dtype {kind}: only the triton attention backend has it, on GPUs that compute "
        "with float8; int8 works everywhere"
    )
