"""What an attention backend is: it owns the layout of the KV cache, and attends over it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from glmserve.ops.batch import Batch

LayerCache = Any
"""K and V of one layer; only the backend that allocated it looks inside."""

AttentionPlan = Any
"""What all layers of one step share; likewise."""


class AttentionBackend(Protocol):
    """`plan` once per step, `write` and `run` per layer."""

    num_kv_heads: int
    device: torch.device

    def token_bytes(self, head_dim: int) -> int:
        """Bytes that one token takes in one layer's cache."""
        ...

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[LayerCache]:
        """One zeroed cache per layer."""
        ...

    def plan(self, batch: Batch, cache: LayerCache) -> AttentionPlan:
        """Work out what the step's layers have in common; `cache` is any layer's."""
        ...

    def write(self, key_values: Tensor, cache: LayerCache, plan: AttentionPlan) -> None:
        """Store K and V of the new tokens, [T, 2*Hkv, D], the key heads before the value heads."""
        ...

    def run(self, qkv: Tensor, cache: LayerCache, plan: AttentionPlan) -> Tensor:
        """Attend from every new token to its sequence so far.

        Args:
            qkv: [T, Hq + 2*Hkv, D], rotated; its K and V are in the cache already.

        Returns:
            [T, Hq, D]
        """
        ...
