"""The `npu`, `incre` and `atb` backends: the vendor's attention on Ascend NPUs, over its own paged
cache.

`npu` computes prompts, chunks, decodes and any mix of them in one call. `incre` and `atb` compute
decodes by a call for single queries, and the rest as `npu` does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from glmserve.ops.attention.npu_cache import (
    NpuCache,
    NpuGeometry,
    NpuPlan,
    heads_side_by_side,
    plan_step,
    scatter,
    send,
    zeros,
)
from glmserve.ops.batch import Batch
from glmserve.ops.uploads import make_uploads

_MASK_SIZE = 2048
"""Rows and columns of the mask that stands for any causal mask (sparse_mode 3)."""
_CAUSAL_FROM_THE_END = 3
"""sparse_mode: the last new token sees the whole context, the one before it all but the last."""


_PRECISE = 0
"""inner_precise of npu_incre_flash_attention; 1 is faster and less exact."""


class NpuAttention:
    """The `npu` AttentionBackend: npu_fused_infer_attention_score in its TND form."""

    def __init__(self, geometry: NpuGeometry) -> None:
        self.num_kv_heads = geometry.num_kv_heads
        self.device = geometry.device
        self.uploads = make_uploads(geometry.device)
        self._geometry = geometry
        self._mask = causal_mask(geometry.device)

    def token_bytes(self, head_dim: int) -> int:
        return 2 * self.num_kv_heads * head_dim * self._geometry.dtype.itemsize

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[NpuCache]:
        return [zeros(self._geometry, num_blocks, self._geometry.dtype) for _ in range(num_layers)]

    def plan(self, batch: Batch, cache: NpuCache) -> NpuPlan:
        return plan_step(batch, self.device)

    def write(self, key_values: Tensor, cache: NpuCache, plan: NpuPlan) -> None:
        scatter(key_values, cache, plan.slots)

    def run(self, qkv: Tensor, cache: NpuCache, plan: NpuPlan) -> Tensor:
        return self._attend(qkv, cache, plan, 0)

    def _attend(self, qkv: Tensor, cache: NpuCache, plan: NpuPlan, first: int) -> Tensor:
        """Attend from the sequences `first`, `first` + 1, ..., whose tokens are all of `qkv`."""
        before = plan.query_ends[first - 1] if first else 0
        out: Tensor = torch.ops.npu.npu_fused_infer_attention_score(
            qkv[:, : self._geometry.num_heads].contiguous(),
            *map(heads_side_by_side, cache),
            atten_mask=self._mask,
            actual_seq_lengths=[end - before for end in plan.query_ends[first:]],
            actual_seq_lengths_kv=plan.contexts[first:],
            block_table=plan.block_tables[first:],
            num_heads=self._geometry.num_heads,
            scale=self._geometry.head_dim**-0.5,
            input_layout="TND",
            num_key_value_heads=self.num_kv_heads,
            sparse_mode=_CAUSAL_FROM_THE_END,
            block_size=self._geometry.block_size,
        )[0]
        return out


class _DecodesApart(NpuAttention):
    """Decodes by a call of their own."""

    def run(self, qkv: Tensor, cache: NpuCache, plan: NpuPlan) -> Tensor:
        count = plan.num_decodes
        parts = [self._decode(qkv[:count], cache, plan)] if count else []
        if count < len(plan.contexts):
            parts.append(self._attend(qkv[count:], cache, plan, count))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _decode(self, qkv: Tensor, cache: NpuCache, plan: NpuPlan) -> Tensor:
        """Attend from the decodes, whose tokens are all of `qkv`: [B, Hq, D]."""
        raise NotImplementedError


class IncreAttention(_DecodesApart):
    """The `incre` AttentionBackend: decodes by npu_incre_flash_attention."""

    def _decode(self, qkv: Tensor, cache: NpuCache, plan: NpuPlan) -> Tensor:
        queries = qkv[:, : self._geometry.num_heads].contiguous()
        out: Tensor = torch.ops.npu.npu_incre_flash_attention(
            queries.flatten(1).unsqueeze(1),  # [B, 1, Hq*D]
            *map(heads_side_by_side, cache),
            actual_seq_lengths=plan.contexts[: len(queries)],
            block_table=plan.block_tables[: len(queries)],
            num_heads=self._geometry.num_heads,
            scale_value=self._geometry.head_dim**-0.5,
            input_layout="BSH",
            num_key_value_heads=self.num_kv_heads,
            block_size=self._geometry.block_size,
            inner_precise=_PRECISE,
        )
        return out.view(queries.shape)


class AtbAttention(_DecodesApart):
    """The `atb` AttentionBackend: decodes by atb::_npu_paged_attention."""

    def write(self, key_values: Tensor, cache: NpuCache, plan: NpuPlan) -> None:
        keys, values = key_values.chunk(2, dim=1)
        torch.ops.atb._npu_reshape_and_cache(
            keys.contiguous(), values.contiguous(), *cache, plan.slots
        )

    def _decode(self, qkv: Tensor, cache: NpuCache, plan: NpuPlan) -> Tensor:
        queries = qkv[:, : self._geometry.num_heads].contiguous()
        out = torch.empty_like(queries)
        torch.ops.atb._npu_paged_attention(
            queries,
            *cache,
            self.num_kv_heads,
            self._geometry.num_heads,
            self._geometry.head_dim**-0.5,
            plan.block_tables[: len(queries)],
            torch.tensor(plan.contexts[: len(queries)], dtype=torch.int32),  # read on the host
            out,
        )
        return out


def causal_mask(device: torch.device) -> Tensor:
    """int8 [2048, 2048]: 1 where a token must not attend."""
    mask = np.triu(np.ones((_MASK_SIZE, _MASK_SIZE), dtype=np.int8), 1)
    return send(mask, device)
