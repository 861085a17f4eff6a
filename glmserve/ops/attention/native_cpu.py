"""The `native` backend: attention by `glmserve_cpu_kernels`.

The result for a token does not depend on the other tokens of the step, so this is also the backend
of --deterministic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve.config import KvCacheDType
from glmserve.ops.batch import Batch
from glmserve_cpu_kernels import attention
from glmserve_cpu_kernels.attention import SUBBLOCK, KvCache, Step
from glmserve_cpu_kernels.library import Library


class NativeCpuAttention:
    """The `native` AttentionBackend.

    Args:
        block_size: a multiple of SUBBLOCK.
        dtype: of activations, float32 or bfloat16.
        kv_cache_dtype: auto or int8.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        num_kv_heads: int,
        block_size: int,
        dtype: torch.dtype,
        kv_cache_dtype: KvCacheDType,
        library: Library,
    ) -> None:
        self.num_kv_heads = num_kv_heads
        self._block_size = block_size
        self._dtype = dtype
        self._is_int8 = kv_cache_dtype == "int8"
        self._library = library

    def token_bytes(self, head_dim: int) -> int:
        return attention.token_bytes(
            self.num_kv_heads, head_dim, self._dtype, is_int8=self._is_int8
        )

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[KvCache]:
        num_subblocks = num_blocks * self._block_size // SUBBLOCK
        return [
            KvCache(
                self._library,
                *(num_subblocks, self.num_kv_heads, head_dim, self._dtype),
                is_int8=self._is_int8,
            )
            for _ in range(num_layers)
        ]

    def plan(self, batch: Batch, cache: KvCache) -> Step:
        """See AttentionBackend.

        Raises:
            IndexError: a block id is outside the cache, where the kernels would write.
        """
        num_blocks = len(cache.numbers) * SUBBLOCK // self._block_size
        tables = batch.block_tables
        if tables.size and not (tables.min() >= 0 and tables.max() < num_blocks):
            raise IndexError(f"blocks {tables.min()} to {tables.max()} of {num_blocks}")
        return Step(
            slots=batch.slot_mapping,
            last_visible=batch.last_visible,
            query_start=batch.query_start,
            contexts=batch.context_lens,
            block_tables=batch.block_tables,
            block_size=self._block_size,
        )

    def write(self, key_values: Tensor, cache: KvCache, plan: Step) -> None:
        attention.write(self._library, cache, plan, key_values)

    def run(self, qkv: Tensor, cache: KvCache, plan: Step) -> Tensor:
        return attention.attend(self._library, cache, plan, qkv, self.num_kv_heads)
