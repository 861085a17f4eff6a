"""The `native` backend: attention by `glmserve_cpu_kernels`.

The result for a token does not depend on the other tokens of the step, so this is also the backend
of --deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.config import KvCacheDType
from glmserve.ops.batch import Batch, Int64Array
from glmserve.ops.uploads import DirectUploads, Uploads
from glmserve_cpu_kernels import attention
from glmserve_cpu_kernels.attention import SUBBLOCK, KvCache, Step
from glmserve_cpu_kernels.library import Library


class NativeCpuAttention:
    """The `native` AttentionBackend.

    Args:
        block_size: a multiple of SUBBLOCK.
        dtype: of activations, float32 or bfloat16.
        kv_cache_dtype: auto or int8.
        prefix_length: P, slots of a prefix that every sequence has.
        prefix_slots: slots for prefixes that single sequences have (`Batch.prefixes`). A prefix
            lies in blocks of its own behind the others, and ends with the last of them, so that
            the sequence's own blocks follow.
    """

    device = torch.device("cpu")
    uploads: Uploads = DirectUploads(device)

    def __init__(
        self,
        num_kv_heads: int,
        block_size: int,
        dtype: torch.dtype,
        kv_cache_dtype: KvCacheDType,
        library: Library,
        prefix_length: int = 0,
        prefix_slots: int = 0,
    ) -> None:
        self.num_kv_heads = num_kv_heads
        self._block_size = block_size
        self._dtype = dtype
        self._is_int8 = kv_cache_dtype == "int8"
        self._library = library
        self._prefix_length = prefix_length
        self._num_prefix_blocks = self._blocks(prefix_length) + self._blocks(prefix_slots)

    def token_bytes(self, head_dim: int) -> int:
        return attention.token_bytes(
            self.num_kv_heads, head_dim, self._dtype, is_int8=self._is_int8
        )

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[KvCache]:
        num_blocks += self._num_prefix_blocks
        num_subblocks = num_blocks * self._block_size // SUBBLOCK
        return [
            KvCache(
                self._library,
                *(num_subblocks, self.num_kv_heads, head_dim, self._dtype),
                is_int8=self._is_int8,
            )
            for _ in range(num_layers)
        ]

    def release(self, caches: Sequence[KvCache]) -> None:
        """See ReleasingBackend."""
        for cache in caches:
            cache.release(self._first_prefix_block(cache) * self._block_size // SUBBLOCK)

    def plan(self, batch: Batch, cache: KvCache) -> Step:
        """See AttentionBackend.

        Raises:
            IndexError: a block id is outside the cache, where the kernels would write.
        """
        num_blocks = self._first_prefix_block(cache)
        tables = batch.block_tables
        if tables.size and not (tables.min() >= 0 and tables.max() < num_blocks):
            raise IndexError(f"blocks {tables.min()} to {tables.max()} of {num_blocks}")
        spans = self._prefix_spans(batch)
        if spans is not None:
            return self._plan_with_prefixes(batch, spans, num_blocks)
        return Step(
            slots=batch.slot_mapping,
            last_visible=batch.last_visible,
            query_start=batch.query_start,
            contexts=batch.context_lens,
            block_tables=tables,
            block_size=self._block_size,
        )

    def write_prefix(self, caches: Sequence[KvCache], prefix: Tensor, first: int = 0) -> None:
        """See PrefixBackend."""
        size = self.prefix_place(prefix.shape[1])
        slots = self._first_prefix_block(caches[0]) * self._block_size + first + np.arange(size)
        step = Step(slots, slots, np.array([0, size]), np.array([size]), slots[None], SUBBLOCK)
        # Slots that no token attends to must be finite, too.
        whole = F.pad(prefix, (0, 0, 0, 0, size - prefix.shape[1], 0)).to(self._dtype)
        for cache, key_values in zip(caches, whole.contiguous(), strict=True):
            self.write(key_values, cache, step)

    def prefix_place(self, length: int) -> int:
        """See PrefixBackend."""
        return self._blocks(length) * self._block_size

    def _prefix_spans(self, batch: Batch) -> Int64Array | None:
        """[B, 2]: see `Batch.prefixes`; None: no sequence has a prefix."""
        if batch.prefixes is not None:
            return batch.prefixes if batch.prefixes[:, 1].any() else None
        if not self._prefix_length:
            return None
        return np.broadcast_to(np.array([0, self._prefix_length]), (len(batch.context_lens), 2))

    def _plan_with_prefixes(self, batch: Batch, spans: Int64Array, num_blocks: int) -> Step:
        """The blocks of a prefix come before those of its sequence, which shifts positions."""
        counts = -(-spans[:, 1] // self._block_size)  # [B]: blocks
        shifts = counts * self._block_size
        own, most = batch.block_tables, int(counts.max())
        columns = np.arange(most + own.shape[1])
        prefix = num_blocks + spans[:, :1] // self._block_size + columns
        behind = np.clip(columns - counts[:, None], 0, own.shape[1] - 1)
        owners = np.repeat(np.arange(len(counts)), np.diff(batch.query_start))
        return Step(
            slots=batch.slot_mapping,
            last_visible=batch.last_visible + shifts[owners],
            query_start=batch.query_start,
            contexts=batch.context_lens + shifts,
            block_tables=np.where(
                columns < counts[:, None], prefix, np.take_along_axis(own, behind, axis=1)
            ),
            block_size=self._block_size,
            hidden=shifts - spans[:, 1],
        )

    def _blocks(self, slots: int) -> int:
        return -(-slots // self._block_size)

    def _first_prefix_block(self, cache: KvCache) -> int:
        return len(cache.numbers) * SUBBLOCK // self._block_size - self._num_prefix_blocks

    def write(self, key_values: Tensor, cache: KvCache, plan: Step) -> None:
        attention.write(self._library, cache, plan, key_values)

    def run(self, qkv: Tensor, cache: KvCache, plan: Step) -> Tensor:
        return attention.attend(self._library, cache, plan, qkv, self.num_kv_heads)
