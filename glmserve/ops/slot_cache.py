"""What the attention backends over a KvStore share: the cache, one slot for each token."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.ops.attention import LayerCache
from glmserve.ops.kv_store import KvStore


class SlotBackend:
    """The part of an AttentionBackend that keeps K and V; its plans have a `slot_mapping`.

    Args:
        num_kv_heads: Hkv.
        device: where everything is.
        block_size: token slots per block.
        store: keeps K and V; its module describes the layout.
    """

    def __init__(
        self, num_kv_heads: int, device: torch.device, block_size: int, store: KvStore
    ) -> None:
        self.num_kv_heads = num_kv_heads
        self.device = device
        self._block_size = block_size
        self._store = store

    def token_bytes(self, head_dim: int) -> int:
        return 2 * self.num_kv_heads * self._store.head_bytes(head_dim)

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[LayerCache]:
        num_slots = num_blocks * self._block_size
        return [
            self._store.allocate(num_slots, 2 * self.num_kv_heads, head_dim, self.device)
            for _ in range(num_layers)
        ]

    def write(self, key_values: Tensor, cache: LayerCache, plan: Any) -> None:
        self._store.write(cache, plan.slot_mapping, key_values)

    def _send(self, array: NDArray[Any]) -> Tensor:
        """To the device, without waiting: the driver has copied it when this returns."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)
