"""The KV cache of the vendor's attention on Ascend NPUs: the heads of a token are side by side.

This is the layout that the vendor's documents call (blocknum, blocksize, H).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.ops.batch import Batch

BLOCK_SIZE = 128
"""The smallest block of npu_fused_infer_attention_score, and the recommended one."""
LARGEST_BLOCK = 512


class NpuCache(NamedTuple):
    """One layer."""

    keys: Tensor
    """[num_blocks, block_size, Hkv, D], of the activations' dtype or int8."""
    values: Tensor
    """As keys."""


class NpuGeometry(NamedTuple):
    """Sizes of the model and of the cache."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype
    """Of activations."""
    device: torch.device
    block_size: int


@dataclass(frozen=True, slots=True)
class NpuPlan:
    """What all layers of one step share. B sequences, those with one new token (decodes) first.

    The calls take lengths as lists on the host, and nothing is read back from the device.
    """

    slots: Tensor
    """int32 [T]: cache slot of each new token."""
    query_ends: list[int]
    """[B]: index behind each sequence's last token."""
    contexts: list[int]
    """[B]: tokens of each sequence in the cache, the new ones included."""
    block_tables: Tensor
    """int32 [B, blocks of the longest sequence]"""
    num_decodes: int


def plan_step(batch: Batch, device: torch.device) -> NpuPlan:
    """The plan of a step."""
    return NpuPlan(
        slots=send(batch.slot_mapping.astype(np.int32), device),
        query_ends=batch.query_start[1:].tolist(),
        contexts=batch.context_lens.tolist(),
        block_tables=send(batch.block_tables.astype(np.int32), device),
        num_decodes=batch.num_decodes,
    )


def send(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy to the device."""
    return torch.from_numpy(array).to(device, non_blocking=True)


def heads_side_by_side(numbers: Tensor) -> Tensor:
    """View [num_blocks, block_size, Hkv, D] as [num_blocks, block_size, Hkv * D]."""
    return numbers.flatten(2)


def zeros(geometry: NpuGeometry, num_blocks: int, dtype: torch.dtype) -> NpuCache:
    """An empty cache of one layer."""
    shape = (num_blocks, geometry.block_size, geometry.num_kv_heads, geometry.head_dim)
    keys, values = (torch.zeros(shape, dtype=dtype, device=geometry.device) for _ in range(2))
    return NpuCache(keys, values)


def scatter(key_values: Tensor, cache: NpuCache, slots: Tensor) -> None:
    """Store [T, 2*Hkv, D] at int32 `slots` [T]: npu_scatter_pa_kv_cache, which wants whole tensors
    instead of views with gaps."""
    keys, values = key_values.chunk(2, dim=1)
    torch.ops.npu.npu_scatter_pa_kv_cache(
        keys.contiguous(), values.contiguous(), *cache, slots, cache_mode="Norm"
    )
