"""The interface of attention backends: each owns a layout of the KV cache and attends over it.

Shapes: T new tokens of one step, Hq query heads, Hkv key/value heads, D head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from glmserve.ops.batch import Batch
from glmserve.ops.uploads import Uploads

Cache = TypeVar("Cache")
"""K and V of one layer, in the backend's own layout."""

Plan = TypeVar("Plan")
"""What all layers of one step share, for example masks and cache slots."""


class AttentionBackend(Protocol[Cache, Plan]):
    """Plans once per step, then writes and attends in every layer."""

    num_kv_heads: int
    device: torch.device
    uploads: Uploads
    """Sends the arrays of a step to `device`."""

    def token_bytes(self, head_dim: int) -> int:
        """Bytes that one token takes in one layer's cache."""
        ...

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[Cache]:
        """One zeroed cache per layer."""
        ...

    def plan(self, batch: Batch, cache: Cache) -> Plan:
        """Compute what the layers of a step share.

        Args:
            cache: the cache of any layer; all have the same shape.
        """
        ...

    def write(self, key_values: Tensor, cache: Cache, plan: Plan) -> None:
        """Store K and V of the new tokens, [T, 2*Hkv, D], key heads before value heads."""
        ...

    def run(self, qkv: Tensor, cache: Cache, plan: Plan) -> Tensor:
        """Attend from every new token to its sequence so far.

        Args:
            qkv: [T, Hq + 2*Hkv, D], rotated. Its K and V are in the cache already.

        Returns:
            [T, Hq, D]
        """
        ...


@runtime_checkable
class PrefixBackend(Protocol):
    """An AttentionBackend with slots for prefixes behind its blocks."""

    device: torch.device

    def prefix_place(self, length: int) -> int:
        """How many slots are set aside for a prefix of this length."""
        ...

    def write_prefix(self, caches: Sequence[Any], prefix: Tensor, first: int = 0) -> None:
        """Store a prefix [layers, P, 2*Hkv, D] in the caches of all layers.

        Args:
            first: of the slots that are set aside for it, counted among those behind the blocks.
        """
        ...


@runtime_checkable
class ReleasingBackend(Protocol):
    """An AttentionBackend that can give the memory of its caches back to the system."""

    def release(self, caches: Sequence[Any]) -> None:
        """Give back the memory of all blocks, but not that of prefixes.

        The blocks lose their contents. They take memory again where they are written.
        """
        ...


AnyAttentionBackend = AttentionBackend[Any, Any]
"""A backend that an option selects at run time. Its caches and plans go back to it unread."""
