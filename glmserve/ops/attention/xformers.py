"""The `xformers` backend: one call for a whole step, with K and V gathered from the cache.

A fallback where the Triton kernels cannot run, and a comparison for them. It reads every context
twice (once to gather it), so decoding is slower than with `triton`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from xformers.ops import memory_efficient_attention_forward
from xformers.ops.fmha.attn_bias import BlockDiagonalCausalFromBottomRightMask

from glmserve.errors import OptionError
from glmserve.ops.attention.backend import Cache
from glmserve.ops.attention.slot_cache import SlotBackend
from glmserve.ops.batch import Batch


@dataclass(frozen=True, slots=True)
class XformersPlan:
    """What all layers of one step share."""

    slot_mapping: Tensor
    """int64 [T]: cache slot of each new token."""
    context_slots: Tensor
    """int64 [sum of contexts]: cache slots of all sequences, one after the other."""
    mask: Any
    """A BlockDiagonalCausalFromBottomRightMask: a token attends to its own sequence up to
    itself."""


class XformersAttention(SlotBackend[Cache]):
    """The `xformers` AttentionBackend, for GPUs; see SlotBackend for its arguments."""

    def check_supported(self, num_heads: int, head_dim: int, dtype: torch.dtype) -> None:
        """Attend once over zeros, to find out whether xformers has a kernel.

        Args:
            dtype: of activations.

        Raises:
            OptionError: xformers has no kernel for this model on this device.
        """
        qkv = torch.zeros(
            (1, num_heads + 2 * self.num_kv_heads, head_dim), dtype=dtype, device=self.device
        )
        mask = BlockDiagonalCausalFromBottomRightMask.from_seqlens([1], [1], device=self.device)
        try:
            self._attend(qkv[:, :num_heads], qkv[:, num_heads:], mask)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            reasons = " ".join(str(error).split())
            raise OptionError(
                f"--attention-backend xformers cannot be used here: {reasons}"
            ) from None

    def plan(self, batch: Batch, cache: Cache) -> XformersPlan:
        contexts = batch.context_lens.tolist()
        slots = [batch.slots(i, i + 1, context)[0] for i, context in enumerate(contexts)]
        return XformersPlan(
            slot_mapping=self.uploads.send(batch.slot_mapping),
            context_slots=self.uploads.send(np.concatenate(slots)),
            mask=BlockDiagonalCausalFromBottomRightMask.from_seqlens(
                np.diff(batch.query_start).tolist(), contexts, device=self.device
            ),
        )

    def run(self, qkv: Tensor, cache: Cache, plan: XformersPlan) -> Tensor:
        queries = qkv[:, : qkv.shape[1] - 2 * self.num_kv_heads]
        return self._attend(queries, self._store.read(cache, plan.context_slots), plan.mask)

    def _attend(self, queries: Tensor, key_values: Tensor, mask: Any) -> Tensor:
        """queries [T, Hq, D] over key_values [contexts, 2*Hkv, D] to [T, Hq, D].

        xformers takes [1, tokens, groups, heads of the group, D]; keys are expanded, not copied.
        """
        tokens, num_heads, dim = queries.shape
        group = num_heads // self.num_kv_heads
        keys, values = (
            part[None, :, :, None].expand(1, -1, -1, group, -1)
            for part in key_values.chunk(2, dim=1)
        )
        grouped = queries.reshape(1, tokens, self.num_kv_heads, group, dim)
        out: Tensor = memory_efficient_attention_forward(grouped, keys, values, mask)
        return out.reshape(tokens, num_heads, dim)
