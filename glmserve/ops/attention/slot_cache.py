"""The common part of the attention backends over a KvStore, which has one slot per token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.ops.attention.backend import Cache
from glmserve.ops.attention.kv_store import KvStore
from glmserve.ops.batch import Batch, Int64Array


class SlotPlan(Protocol):
    """The part of a plan that `SlotBackend.write` reads."""

    @property
    def slot_mapping(self) -> Tensor:
        """int64 [T]: cache slot of each new token."""
        ...


class SlotBackend(Generic[Cache]):
    """Allocates and writes the cache; subclasses add `plan` and `run` of an AttentionBackend.

    Args:
        num_kv_heads: Hkv.
        device: of the cache and of all other tensors.
        block_size: token slots per block.
        store: the number format of K and V; its module describes the layout.
        prefix_length: P, slots of a P-Tuning v2 prefix, which every token of every sequence attends
            to as well. They lie behind the slots of the blocks.
    """

    def __init__(
        self,
        num_kv_heads: int,
        device: torch.device,
        block_size: int,
        store: KvStore[Cache],
        prefix_length: int = 0,
    ) -> None:
        self.num_kv_heads = num_kv_heads
        self.device = device
        self._block_size = block_size
        self._store = store
        self._prefix_length = prefix_length

    def token_bytes(self, head_dim: int) -> int:
        return 2 * self.num_kv_heads * self._store.head_bytes(head_dim)

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[Cache]:
        num_slots = num_blocks * self._block_size + self._prefix_length
        return [
            self._store.allocate(num_slots, 2 * self.num_kv_heads, head_dim, self.device)
            for _ in range(num_layers)
        ]

    def write(self, key_values: Tensor, cache: Cache, plan: SlotPlan) -> None:
        self._store.write(cache, plan.slot_mapping, key_values)

    def write_prefix(self, caches: Sequence[Cache], prefix: Tensor) -> None:
        """Store the prefix [layers, P, 2*Hkv, D] in the caches of all layers."""
        slots = self._send(self._prefix_slots(self._store.null_slot(caches[0])))
        for cache, key_values in zip(caches, prefix, strict=True):
            self._store.write(cache, slots, key_values)

    def _slots(
        self, batch: Batch, first: int, last: int, length: int, null_slot: int
    ) -> Int64Array:
        """Slots of the prefix, then of positions 0..length-1: [last-first, P + length]."""
        own = batch.slots(first, last, length)
        if not self._prefix_length:
            return own
        prefix = np.broadcast_to(self._prefix_slots(null_slot), (len(own), self._prefix_length))
        return np.concatenate((prefix, own), axis=1)

    def _prefix_slots(self, null_slot: int) -> Int64Array:
        return np.arange(null_slot - self._prefix_length, null_slot)

    def _send(self, array: NDArray[Any]) -> Tensor:
        """Copy to the device without waiting: the driver has its own copy when this returns."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)
