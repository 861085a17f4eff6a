"""Attention in plain torch with batch-invariant results, for CPUs.

Libraries choose the order of a sum by the shapes they are given. So attention takes one query token
at a time over pieces of 64 positions, which are counted from the sequence's beginning, and merges
pieces in order: the result for a token has the same bits in any step. Padded and masked positions
add exact zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.ops.attention.backend import Cache
from glmserve.ops.attention.slot_cache import SlotBackend
from glmserve.ops.batch import Batch

_PIECE = 64
"""Positions."""
_GROUP_MULTIPLE = 4
"""Rows of a small product are padded to a multiple: of one to three rows, MKL computes several
products at a time, and how many changes the bits."""
_QUERIES_AT_ONCE = 64
"""Each query has its own copy of a piece of K and V."""


@dataclass(frozen=True, slots=True)
class BatchInvariantPlan:
    """What all layers of one step share."""

    slot_mapping: Tensor
    """int64 [T]: cache slot of each new token."""
    slots: Tensor
    """int64 [T, pieces, _PIECE]: cache slots that each new token attends to, padded with the null
    slot."""
    mask: Tensor
    """float32 [T, pieces, 1, 1, _PIECE]: -inf where the token does not attend, else 0."""


class BatchInvariantAttention(SlotBackend[Cache]):
    """The AttentionBackend of a CPU with --deterministic and without our own kernels; see
    SlotBackend for its arguments."""

    def plan(self, batch: Batch, cache: Cache) -> BatchInvariantPlan:
        null_slot, longest = self._store.null_slot(cache), int(batch.context_lens.max())
        prefix_lengths = self._prefix_spans(batch)[:, 1]
        length = -(-(int(prefix_lengths.max()) + longest) // _PIECE) * _PIECE
        known = self._slots(batch, 0, len(batch.context_lens), longest, null_slot)
        slots = np.full((len(known), length), null_slot)
        slots[:, : known.shape[1]] = known
        slots = np.repeat(slots, np.diff(batch.query_start), axis=0)  # [T, length]
        owners = np.repeat(np.arange(len(known)), np.diff(batch.query_start))
        attended = np.arange(length) - prefix_lengths[owners, None]  # [T, length]
        beyond = attended > batch.last_visible[:, None]
        slots[beyond] = null_slot
        mask = torch.zeros(beyond.shape).masked_fill_(torch.from_numpy(beyond), -math.inf)
        return BatchInvariantPlan(
            slot_mapping=torch.from_numpy(batch.slot_mapping),
            slots=torch.from_numpy(slots).view(len(slots), -1, _PIECE),
            mask=mask.view(len(slots), -1, 1, 1, _PIECE),
        )

    def run(self, qkv: Tensor, cache: Cache, plan: BatchInvariantPlan) -> Tensor:
        num_heads = qkv.shape[1] - 2 * self.num_kv_heads
        queries = qkv[:, :num_heads]
        parts = []
        for start in range(0, len(qkv), _QUERIES_AT_ONCE):
            some = slice(start, start + _QUERIES_AT_ONCE)
            parts.append(self._attend(queries[some], cache, plan.slots[some], plan.mask[some]))
        return torch.cat(parts)

    def _attend(self, queries: Tensor, cache: Cache, slots: Tensor, mask: Tensor) -> Tensor:
        """queries [n, Hq, D] over slots [n, pieces, _PIECE] to [n, Hq, D]."""
        n, num_heads, dim = queries.shape
        q = queries.reshape(n, self.num_kv_heads, -1, dim).float() * dim**-0.5
        group = q.shape[2]
        q = F.pad(q, (0, 0, 0, -group % _GROUP_MULTIPLE))
        softmax = _OnlineSoftmax(q)
        for i in range(slots.shape[1]):
            heads = self._store.read(cache, slots[:, i].reshape(-1)).float()
            keys, values = heads.view(n, _PIECE, 2, self.num_kv_heads, dim).unbind(2)
            scores = q @ keys.permute(0, 2, 3, 1) + mask[:, i]
            softmax.add(scores, values.transpose(1, 2))
        out = softmax.result()[:, :, :group]
        return out.reshape(n, num_heads, dim).to(queries.dtype)


class _OnlineSoftmax:
    """Softmax-weighted sum of values, merged piece by piece (Milakov, Gimelshein 2018)."""

    def __init__(self, q: Tensor) -> None:
        """q [n, Hkv, G, D]"""
        self._largest = torch.full((*q.shape[:3], 1), -math.inf)
        self._sum = torch.zeros(*q.shape[:3], q.shape[3] + 1)

    def add(self, scores: Tensor, values: Tensor) -> None:
        """scores [n, Hkv, G, _PIECE], values [n, Hkv, _PIECE, D]."""
        largest = torch.maximum(self._largest, scores.amax(-1, keepdim=True))
        weights = torch.exp(scores - largest)
        # The column of ones gives the sum of the weights, added up in the same order as the values.
        self._sum = self._sum * torch.exp(self._largest - largest) + weights @ F.pad(
            values, (0, 1), value=1.0
        )
        self._largest = largest

    def result(self) -> Tensor:
        """[n, Hkv, G, D]"""
        return self._sum[..., :-1] / self._sum[..., -1:]
