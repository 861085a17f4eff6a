"""The KV cache that Triton kernels read: blocks of one head lie in one piece."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor


class PagedCache(NamedTuple):
    """One layer; number = code * scale where there are scales."""

    keys: Tensor
    """[num_blocks, Hkv, block_size, D]"""
    values: Tensor
    """The same; [num_blocks, Hkv, D, block_size] if its numbers have 8 bits."""
    key_scales: Tensor | None
    """float32 [num_blocks, Hkv, block_size]"""
    value_scales: Tensor | None


class PagedGeometry(NamedTuple):
    """What a backend needs to know of the model and the GPU."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    cache_dtype: torch.dtype
    """Of K and V: that of the activations, int8 or float8_e4m3fn."""
    device: torch.device
    chip: str
    """Whose tiles to use: "sm_90", "gfx942", ..."""
    multiprocessors: int
    """How many the chip has."""
    block_size: int
    """Token slots per block; a power of two from 16 on."""


class PagedBackend:
    """What the attention backends over a PagedCache share: the cache itself."""

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

    def write(self, key_values: Tensor, cache: PagedCache, plan: Any) -> None:
        """Not how the model writes, see TritonOps: that rotates and quantises on the way."""
        page = self._geometry.block_size
        blocks, offsets = plan.slots // page, plan.slots % page
        keys, values = key_values.chunk(2, dim=1)
        cache.keys[blocks, :, offsets] = keys
        cache.values[blocks, :, offsets] = values

    def _allocate_layer(self, num_blocks: int, head_dim: int) -> PagedCache:
        page, dtype = self._geometry.block_size, self._geometry.cache_dtype

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            heads = (num_blocks, self.num_kv_heads)
            return torch.zeros((*heads, *shape), dtype=dtype, device=self.device)

        if not _has_scales(dtype):
            shape = (page, head_dim)
            return PagedCache(zeros(*shape, dtype=dtype), zeros(*shape, dtype=dtype), None, None)
        return PagedCache(
            zeros(page, head_dim, dtype=dtype),
            zeros(head_dim, page, dtype=dtype),
            zeros(page, dtype=torch.float32),
            zeros(page, dtype=torch.float32),
        )

    def _send(self, array: NDArray[Any]) -> Tensor:
        """To the device, without waiting: the driver has copied it when this returns."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)


def _has_scales(dtype: torch.dtype) -> bool:
    """Whether the cache holds codes."""
    return dtype.itemsize == 1
