"""The KV cache of the Triton kernels: the slots of a block and head are contiguous."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor


class PagedCache(NamedTuple):
    """One layer. Where there are scales, number = code * scale."""

    keys: Tensor
    """[num_blocks, Hkv, block_size, D]"""
    values: Tensor
    """[num_blocks, Hkv, block_size, D]; of 8-bit numbers [num_blocks, Hkv, D, block_size]."""
    key_scales: Tensor | None
    """float32 [num_blocks, Hkv, block_size]; None: numbers have 16 or 32 bits."""
    value_scales: Tensor | None
    """As key_scales."""


class PagedGeometry(NamedTuple):
    """Sizes of the model, of the cache and of the GPU."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    cache_dtype: torch.dtype
    """Of K and V: that of the activations, int8 or float8_e4m3fn."""
    device: torch.device
    chip: str
    """Selects the tile sizes: "sm_90", "gfx942", ..."""
    multiprocessors: int
    """How many the chip has."""
    block_size: int
    """Token slots per block: a power of two, at least 16."""


class PagedStepPlan(Protocol):
    """The part of a plan that writing to a PagedCache reads."""

    @property
    def positions(self) -> Tensor:
        """int64 [T]"""
        ...

    @property
    def slots(self) -> Tensor:
        """int64 [T]: cache slot of each new token; -1: padding, nothing is cached."""
        ...


class PagedBackend:
    """Allocates and writes the cache; subclasses add `plan` and `run` of an AttentionBackend."""

    def __init__(self, geometry: PagedGeometry) -> None:
        self.num_kv_heads = geometry.num_kv_heads
        self.device = geometry.device
        self._geometry = geometry

    def token_bytes(self, head_dim: int) -> int:
        dtype = self._geometry.cache_dtype
        scale = torch.float32.itemsize if _has_scales(dtype) else 0
        return 2 * self.num_kv_heads * (head_dim * dtype.itemsize + scale)

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[PagedCache]:
        return [self._allocate_layer(num_blocks, head_dim) for _ in range(num_layers)]

    def write(self, key_values: Tensor, cache: PagedCache, plan: PagedStepPlan) -> None:
        """Store K and V without scales. Models use TritonOps.self_attention instead, which rotates
        and quantises in the same kernel."""
        block_size = self._geometry.block_size
        blocks, offsets = plan.slots // block_size, plan.slots % block_size
        keys, values = key_values.chunk(2, dim=1)
        cache.keys[blocks, :, offsets] = keys
        cache.values[blocks, :, offsets] = values

    def _allocate_layer(self, num_blocks: int, head_dim: int) -> PagedCache:
        block_size, dtype = self._geometry.block_size, self._geometry.cache_dtype

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            heads = (num_blocks, self.num_kv_heads)
            return torch.zeros((*heads, *shape), dtype=dtype, device=self.device)

        if not _has_scales(dtype):
            shape = (block_size, head_dim)
            return PagedCache(zeros(*shape, dtype=dtype), zeros(*shape, dtype=dtype), None, None)
        return PagedCache(
            zeros(block_size, head_dim, dtype=dtype),
            zeros(head_dim, block_size, dtype=dtype),
            zeros(block_size, dtype=torch.float32),
            zeros(block_size, dtype=torch.float32),
        )

    def _send(self, array: NDArray[Any]) -> Tensor:
        """Copy to the device without waiting: the driver has its own copy when this returns."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)


def _has_scales(dtype: torch.dtype) -> bool:
    """Whether the cache holds codes and scales: its numbers have 8 bits."""
    return dtype.itemsize == 1
