"""The `npu` backend with a KV cache of 8 bits, and one scale per token and head.

The vendor's paged attention reads such a cache for decodes only. So the contexts of sequences with
several new tokens are gathered and brought back to the activations' dtype, and attended without
pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glmserve.ops.attention.npu import causal_mask
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

_PAGED_SCALES_PER_TOKEN_AND_HEAD = 5
"""key_antiquant_mode and value_antiquant_mode: scales are float32 [num_blocks, Hkv, block_size]."""
_CAUSAL_FROM_THE_END = 3  # see npu.py


class NpuInt8Cache(NamedTuple):
    """One layer; number = code * scale."""

    codes: NpuCache
    """int8"""
    key_scales: Tensor
    """float32 [num_blocks, Hkv, block_size]"""
    value_scales: Tensor
    """As key_scales."""


@dataclass(frozen=True, slots=True)
class NpuInt8Plan:
    """What all layers of one step share."""

    step: NpuPlan
    blocks: Tensor
    """int64 [T]: block of each new token."""
    offsets: Tensor
    """int64 [T]: its slot within the block."""
    context_slots: Tensor | None
    """int64 [C]: cache slots of the contexts of all sequences with several new tokens. None: there
    are none."""


class NpuInt8Attention:
    """The `npu` AttentionBackend for --kv-cache-dtype int8."""

    def __init__(self, geometry: NpuGeometry) -> None:
        self.num_kv_heads = geometry.num_kv_heads
        self.device = geometry.device
        self.uploads = make_uploads(geometry.device)
        self._geometry = geometry
        self._mask = causal_mask(geometry.device)

    def token_bytes(self, head_dim: int) -> int:
        return 2 * self.num_kv_heads * (head_dim + torch.float32.itemsize)

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[NpuInt8Cache]:
        return [self._allocate_layer(num_blocks) for _ in range(num_layers)]

    def _allocate_layer(self, num_blocks: int) -> NpuInt8Cache:
        shape = (num_blocks, self.num_kv_heads, self._geometry.block_size)
        scales = (torch.zeros(shape, device=self.device) for _ in range(2))
        return NpuInt8Cache(zeros(self._geometry, num_blocks, torch.int8), *scales)

    def plan(self, batch: Batch, cache: NpuInt8Cache) -> NpuInt8Plan:
        blocks, offsets = np.divmod(batch.slot_mapping, self._geometry.block_size)
        several = range(batch.num_decodes, len(batch.context_lens))
        slots = [batch.slots(i, i + 1, int(batch.context_lens[i]))[0] for i in several]
        return NpuInt8Plan(
            step=plan_step(batch, self.device),
            blocks=send(blocks, self.device),
            offsets=send(offsets, self.device),
            context_slots=send(np.concatenate(slots), self.device) if slots else None,
        )

    def write(self, key_values: Tensor, cache: NpuInt8Cache, plan: NpuInt8Plan) -> None:
        codes, scales = torch.ops.npu.npu_dynamic_quant(key_values)  # scales: [T, 2*Hkv]
        scatter(codes, cache.codes, plan.step.slots)
        key_scales, value_scales = scales.chunk(2, dim=1)
        cache.key_scales[plan.blocks, :, plan.offsets] = key_scales
        cache.value_scales[plan.blocks, :, plan.offsets] = value_scales

    def run(self, qkv: Tensor, cache: NpuInt8Cache, plan: NpuInt8Plan) -> Tensor:
        queries, count = qkv[:, : self._geometry.num_heads], plan.step.num_decodes
        parts = [self._decode(queries[:count], cache, plan.step)] if count else []
        if plan.context_slots is not None:
            parts.append(self._prefill(queries[count:], cache, plan, plan.context_slots))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _decode(self, queries: Tensor, cache: NpuInt8Cache, plan: NpuPlan) -> Tensor:
        """Attend from sequences with one new token, [B, Hq, D], over the pages."""
        out: Tensor = torch.ops.npu.npu_fused_infer_attention_score(
            queries.unsqueeze(1).contiguous(),
            *map(heads_side_by_side, cache.codes),
            actual_seq_lengths_kv=plan.contexts[: len(queries)],
            key_antiquant_scale=cache.key_scales,
            value_antiquant_scale=cache.value_scales,
            block_table=plan.block_tables[: len(queries)],
            num_heads=self._geometry.num_heads,
            scale=self._geometry.head_dim**-0.5,
            input_layout="BSND",
            num_key_value_heads=self.num_kv_heads,
            block_size=self._geometry.block_size,
            key_antiquant_mode=_PAGED_SCALES_PER_TOKEN_AND_HEAD,
            value_antiquant_mode=_PAGED_SCALES_PER_TOKEN_AND_HEAD,
        )[0]
        return out.squeeze(1)

    def _prefill(
        self, queries: Tensor, cache: NpuInt8Cache, plan: NpuInt8Plan, slots: Tensor
    ) -> Tensor:
        """Attend from the other sequences, [n, Hq, D], over their gathered contexts."""
        step, count = plan.step, plan.step.num_decodes
        out: Tensor = torch.ops.npu.npu_fused_infer_attention_score(
            queries.contiguous(),
            self._gather(cache.codes.keys, cache.key_scales, slots),
            self._gather(cache.codes.values, cache.value_scales, slots),
            atten_mask=self._mask,
            actual_seq_lengths=[end - count for end in step.query_ends[count:]],
            actual_seq_lengths_kv=np.cumsum(step.contexts[count:]).tolist(),
            num_heads=self._geometry.num_heads,
            scale=self._geometry.head_dim**-0.5,
            input_layout="TND",
            num_key_value_heads=self.num_kv_heads,
            sparse_mode=_CAUSAL_FROM_THE_END,
        )[0]
        return out

    def _gather(self, codes: Tensor, scales: Tensor, slots: Tensor) -> Tensor:
        """The numbers at int64 `slots` [C]: [C, Hkv, D]."""
        some = codes.flatten(0, 1).index_select(0, slots)
        by_token = scales.transpose(1, 2).flatten(0, 1).index_select(0, slots)
        return (some * by_token.unsqueeze(-1)).to(self._geometry.dtype)
