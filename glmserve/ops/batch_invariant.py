"""Plain torch whose results for a token are the same bits whatever shares its step.

Libraries choose how to add up by the shape they are given, so every product here has one shape:
rows go through in blocks of 16, the last one padded, and attention takes one query token at a time
over pieces of 64 positions that are counted from the sequence's beginning. What is padded or masked
adds exact zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.ops.attention import LayerCache
from glmserve.ops.base import PackedWeight
from glmserve.ops.batch import Batch
from glmserve.ops.cpu import CpuOps
from glmserve.ops.slot_cache import SlotBackend

_ROWS = 16
_PIECE = 64
_GROUP_MULTIPLE = 4
"""Rows of a small product: of one to three rows, MKL takes several products at a time, and how many
there are then shows in the bits."""
_QUERIES_AT_ONCE = 64
"""Each brings its own copy of a piece of K and V."""


class BatchInvariantCpuOps(CpuOps):
    """CpuOps in blocks of rows."""

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        multiply = super().linear
        return _in_blocks(x, lambda rows: multiply(rows, weight, bias))

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = super().rms_norm
        return _in_blocks(x, lambda rows: norm(rows, weight, eps))

    def silu_and_mul(self, x: Tensor) -> Tensor:
        return _by_rows(x, super().silu_and_mul)

    def gelu(self, x: Tensor) -> Tensor:
        return _by_rows(x, super().gelu)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        norm = super().layer_norm
        return _in_blocks(x, lambda rows: norm(rows, weight, bias, eps))


def _by_rows(x: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """`work` on x [n, ...] one row at a time.

    torch cuts all numbers up among threads, and the last few of each part go through other
    functions than whole vectors do.
    """
    return torch.cat([work(row) for row in x.unsqueeze(1).unbind()]) if len(x) else work(x)


def _in_blocks(x: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """`work` on x [n, ...] in blocks of _ROWS rows."""
    padded = F.pad(x, (0, 0, 0, -len(x) % _ROWS))
    blocks = padded.view(-1, _ROWS, x.shape[1]).unbind()
    return torch.cat([work(block) for block in blocks])[: len(x)]


@dataclass(frozen=True, slots=True)
class BatchInvariantPlan:
    """What all layers of one step share."""

    slot_mapping: Tensor
    """int64 [T]: where each new token's K/V goes."""
    slots: Tensor
    """int64 [T, pieces, _PIECE]: cache slots that each new token attends to; then the null slot."""
    mask: Tensor
    """float32 [T, pieces, 1, 1, _PIECE]: 0, or -inf beyond what the token sees."""


class BatchInvariantAttention(SlotBackend):
    """An AttentionBackend; see the module."""

    def plan(self, batch: Batch, cache: LayerCache) -> BatchInvariantPlan:
        null_slot, longest = self._store.null_slot(cache), int(batch.context_lens.max())
        length = -(-(self._prefix_length + longest) // _PIECE) * _PIECE
        known = self._slots(batch, 0, len(batch.context_lens), longest, null_slot)
        slots = np.full((len(known), length), null_slot)
        slots[:, : known.shape[1]] = known
        slots = np.repeat(slots, np.diff(batch.query_start), axis=0)  # [T, length]
        places = np.arange(length) - self._prefix_length
        beyond = places > batch.last_visible[:, None]
        slots[beyond] = null_slot
        mask = torch.zeros(beyond.shape).masked_fill_(torch.from_numpy(beyond), -math.inf)
        return BatchInvariantPlan(
            slot_mapping=torch.from_numpy(batch.slot_mapping),
            slots=torch.from_numpy(slots).view(len(slots), -1, _PIECE),
            mask=mask.view(len(slots), -1, 1, 1, _PIECE),
        )

    def run(self, qkv: Tensor, cache: LayerCache, plan: BatchInvariantPlan) -> Tensor:
        num_heads = qkv.shape[1] - 2 * self.num_kv_heads
        queries = qkv[:, :num_heads]
        parts = []
        for start in range(0, len(qkv), _QUERIES_AT_ONCE):
            some = slice(start, start + _QUERIES_AT_ONCE)
            parts.append(self._attend(queries[some], cache, plan.slots[some], plan.mask[some]))
        return torch.cat(parts)

    def _attend(self, queries: Tensor, cache: LayerCache, slots: Tensor, mask: Tensor) -> Tensor:
        """queries [n, Hq, D], slots [n, pieces, _PIECE]: [n, Hq, D]."""
        n, num_heads, dim = queries.shape
        q = queries.reshape(n, self.num_kv_heads, -1, dim).float() * dim**-0.5
        group = q.shape[2]
        q = F.pad(q, (0, 0, 0, -group % _GROUP_MULTIPLE))
        total = _Total(q)
        for i in range(slots.shape[1]):
            heads = self._store.read(cache, slots[:, i].reshape(-1)).float()
            keys, values = heads.view(n, _PIECE, 2, self.num_kv_heads, dim).unbind(2)
            scores = q @ keys.permute(0, 2, 3, 1) + mask[:, i]
            total.add(scores, values.transpose(1, 2))
        out = total.result()[:, :, :group]
        return out.reshape(n, num_heads, dim).to(queries.dtype)


class _Total:
    """Softmax over pieces, merged in their order (Milakov, Gimelshein 2018: online softmax)."""

    def __init__(self, q: Tensor) -> None:
        """q [n, Hkv, G, D]"""
        self._largest = torch.full((*q.shape[:3], 1), -math.inf)
        self._sum = torch.zeros(*q.shape[:3], q.shape[3] + 1)

    def add(self, scores: Tensor, values: Tensor) -> None:
        """scores [n, Hkv, G, _PIECE], values [n, Hkv, _PIECE, D]."""
        largest = torch.maximum(self._largest, scores.amax(-1, keepdim=True))
        weights = torch.exp(scores - largest)
        # A column of ones: the sum of the weights, added up like everything else.
        self._sum = self._sum * torch.exp(self._largest - largest) + weights @ F.pad(
            values, (0, 1), value=1.0
        )
        self._largest = largest

    def result(self) -> Tensor:
        """[n, Hkv, G, D]"""
        return self._sum[..., :-1] / self._sum[..., -1:]
