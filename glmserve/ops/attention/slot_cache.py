"""The common part of the attention backends over a KvStore, which has one slot per token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol

import numpy as np
import torch
from torch import Tensor

from glmserve.ops.attention.backend import Cache
from glmserve.ops.attention.kv_store import KvStore
from glmserve.ops.batch import Batch, Int64Array
from glmserve.ops.uploads import Uploads, make_uploads


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
        prefix_slots: slots for prefixes that single sequences have (`Batch.prefixes`), at the same
            place. One of both is 0.
        uploads: to the device; None: `make_uploads` makes them.
    """

    def __init__(
        self,
        num_kv_heads: int,
        device: torch.device,
        block_size: int,
        store: KvStore[Cache],
        prefix_length: int = 0,
        prefix_slots: int = 0,
        uploads: Uploads | None = None,
    ) -> None:
        self.num_kv_heads = num_kv_heads
        self.device = device
        self.uploads = uploads or make_uploads(device)
        self._block_size = block_size
        self._store = store
        self._prefix_length = prefix_length
        self._num_prefix_slots = prefix_length + prefix_slots

    def token_bytes(self, head_dim: int) -> int:
        return 2 * self.num_kv_heads * self._store.head_bytes(head_dim)

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[Cache]:
        num_slots = num_blocks * self._block_size + self._num_prefix_slots
        return [
            self._store.allocate(num_slots, 2 * self.num_kv_heads, head_dim, self.device)
            for _ in range(num_layers)
        ]

    def write(self, key_values: Tensor, cache: Cache, plan: SlotPlan) -> None:
        self._store.write(cache, plan.slot_mapping, key_values)

    def write_prefix(self, caches: Sequence[Cache], prefix: Tensor, first: int = 0) -> None:
        """Store a prefix [layers, P, 2*Hkv, D] in the caches of all layers.

        Args:
            first: its first slot, counted among those behind the blocks.
        """
        begin = self._first_prefix_slot(self._store.null_slot(caches[0])) + first
        slots = self.uploads.send(np.arange(begin, begin + prefix.shape[1]))
        for cache, key_values in zip(caches, prefix, strict=True):
            self._store.write(cache, slots, key_values)

    def prefix_place(self, length: int) -> int:
        """See PrefixBackend."""
        return length

    def _prefix_spans(self, batch: Batch) -> Int64Array:
        """[B, 2]: see `Batch.prefixes`."""
        if batch.prefixes is not None:
            return batch.prefixes
        return np.broadcast_to(np.array([0, self._prefix_length]), (len(batch.context_lens), 2))

    def _slots(
        self, batch: Batch, first: int, last: int, length: int, null_slot: int
    ) -> Int64Array:
        """Slots of each sequence's prefix, and then of its positions 0..length-1.

        Returns:
            [last-first, P + length], where P is the length of the longest of the prefixes. What
            comes behind position length-1 of another one's sequence has no meaning.
        """
        own = batch.slots(first, last, length)
        begins, lengths = self._prefix_spans(batch)[first:last, :, None].transpose(1, 0, 2)
        longest = int(lengths.max())
        if not longest:
            return own
        columns = np.arange(longest + length)
        behind = np.clip(columns - lengths, 0, length - 1)
        prefix = self._first_prefix_slot(null_slot) + begins + columns
        slots: Int64Array = np.where(
            columns < lengths, prefix, np.take_along_axis(own, behind, axis=1)
        )
        return slots

    def _first_prefix_slot(self, null_slot: int) -> int:
        return null_slot - self._num_prefix_slots
