"""Paged attention in plain torch: gather, then scaled_dot_product_attention.

Decoding sequences (one new token) are gathered and attended together, in buckets of similar context
length, with the query heads of one key/value head folded into the query axis (no copies of K/V for
grouped heads). Sequences with several new tokens are attended one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.ops.attention.backend import Cache
from glmserve.ops.attention.kv_store import KvStore
from glmserve.ops.attention.slot_cache import SlotBackend
from glmserve.ops.batch import Batch, Int64Array
from glmserve.ops.uploads import Uploads

_BUCKET_COST = 512
"""Padding slots, over all sequences of a bucket, that cost about as much as one more bucket."""


@dataclass(frozen=True, slots=True)
class DecodeBucket:
    """Sequences with one new token each, attended in one call."""

    rows: slice
    """Their rows in the step; a decode has one row, and decodes come first."""
    slots: Tensor
    """int64 [b * longest]: cache slots of their contexts, P prefix slots included, padded with the
    null slot. b sequences; longest: slots of the longest context."""
    mask: Tensor | None
    """[b, 1, 1, longest], of the activations' dtype: 0 or -inf. None: all contexts are equally
    long."""


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """n new tokens of one sequence."""

    rows: slice
    """Their rows in the step."""
    slots: Tensor | None
    """int64 [P + context]: cache slots of the whole context. None: the context is these n tokens,
    so their K and V need not be read from the cache."""
    mask: Tensor | None
    """[n, P + context], of the activations' dtype: -inf where a token does not attend, else 0.
    None: causal."""


@dataclass(frozen=True, slots=True)
class SdpaPlan:
    """What all layers of one step share."""

    slot_mapping: Tensor
    """int64 [T]: cache slot of each new token."""
    decodes: list[DecodeBucket]
    """In the order of their rows."""
    prefills: list[PrefillChunk]
    """In the order of their rows, which follow those of the decodes."""


class SdpaAttention(SlotBackend[Cache]):
    """The `sdpa` AttentionBackend, on any device of torch.

    Args:
        dtype: of activations.
        others: see SlotBackend.
    """

    def __init__(
        self,
        num_kv_heads: int,
        dtype: torch.dtype,
        device: torch.device,
        block_size: int,
        store: KvStore[Cache],
        prefix_length: int = 0,
        prefix_slots: int = 0,
        uploads: Uploads | None = None,
    ) -> None:
        super().__init__(
            num_kv_heads, device, block_size, store, prefix_length, prefix_slots, uploads
        )
        self.dtype = dtype

    def plan(self, batch: Batch, cache: Cache) -> SdpaPlan:
        null_slot = self._store.null_slot(cache)
        return SdpaPlan(
            slot_mapping=self.uploads.send(batch.slot_mapping),
            decodes=[
                self._plan_decode(batch, first, last, null_slot)
                for first, last in decode_buckets(batch.context_lens[: batch.num_decodes])
            ],
            prefills=[
                self._plan_prefill(batch, i, null_slot)
                for i in range(batch.num_decodes, len(batch.context_lens))
            ],
        )

    def run(self, qkv: Tensor, cache: Cache, plan: SdpaPlan) -> Tensor:
        num_queries = qkv.shape[1] - 2 * self.num_kv_heads
        parts = [
            self._run_decode(qkv[bucket.rows, :num_queries], cache, bucket)
            for bucket in plan.decodes
        ]
        parts += [
            self._run_prefill(qkv[chunk.rows], num_queries, cache, chunk) for chunk in plan.prefills
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run_decode(self, q: Tensor, cache: Cache, bucket: DecodeBucket) -> Tensor:
        """q [b, Hq, D] to [b, Hq, D]."""
        b, num_queries, dim = q.shape
        num_kv = self.num_kv_heads
        gathered = (
            self._store.read(cache, bucket.slots).view(b, -1, 2 * num_kv, dim).transpose(1, 2)
        )
        folded = q.reshape(b, num_kv, num_queries // num_kv, dim)
        out = self._attend_folded(folded, gathered[:, :num_kv], gathered[:, num_kv:], bucket.mask)
        return out.reshape(b, num_queries, dim)

    def _attend_folded(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q [b, Hkv, Hq/Hkv, D], k and v [b, Hkv, longest, D] to [b, Hkv, Hq/Hkv, D]."""
        return F.scaled_dot_product_attention(q, k, v, mask)

    def _run_prefill(
        self, qkv: Tensor, num_queries: int, cache: Cache, chunk: PrefillChunk
    ) -> Tensor:
        """qkv [n, Hq + 2*Hkv, D] to [n, Hq, D]."""
        key_values = qkv[:, num_queries:]
        if chunk.slots is not None:
            key_values = self._store.read(cache, chunk.slots)
        heads = key_values.transpose(0, 1).unsqueeze(0)  # [1, 2*Hkv, context, D]
        out = F.scaled_dot_product_attention(
            qkv[:, :num_queries].transpose(0, 1).unsqueeze(0),
            heads[:, : self.num_kv_heads],
            heads[:, self.num_kv_heads :],
            chunk.mask,
            is_causal=chunk.mask is None,
            # Only where needed: fewer of torch's kernels support it.
            enable_gqa=num_queries != self.num_kv_heads,
        )
        return out.squeeze(0).transpose(0, 1)

    def _plan_decode(self, batch: Batch, first: int, last: int, null_slot: int) -> DecodeBucket:
        contexts = batch.context_lens[first:last] + self._prefix_spans(batch)[first:last, 1]
        longest = int(contexts.max())
        slots = self._slots(batch, first, last, int(batch.context_lens[first]), null_slot)
        slots, mask = slots[:, :longest], None
        if contexts.min() != longest:
            beyond = np.arange(longest) >= contexts[:, None]
            slots[beyond] = null_slot
            mask = self._mask(beyond).view(last - first, 1, 1, longest)
        return DecodeBucket(
            rows=slice(first, last),
            slots=self.uploads.send(slots.reshape(-1)),
            mask=mask,
        )

    def _plan_prefill(self, batch: Batch, index: int, null_slot: int) -> PrefillChunk:
        begin, end = int(batch.query_start[index]), int(batch.query_start[index + 1])
        context = int(batch.context_lens[index])
        prefix_length = int(self._prefix_spans(batch)[index, 1])
        is_whole = context == end - begin and not prefix_length
        last_visible = batch.last_visible[begin:end]
        slots, mask = None, None
        if not is_whole or not self._store.is_exact:
            slots = self.uploads.send(self._slots(batch, index, index + 1, context, null_slot)[0])
        if not is_whole or not np.array_equal(last_visible, batch.positions[begin:end]):
            attended = np.arange(-prefix_length, context)
            mask = self._mask(attended > last_visible[:, None])
        return PrefillChunk(slice(begin, end), slots, mask)

    def _mask(self, beyond: np.typing.NDArray[np.bool_]) -> Tensor:
        """-inf where `beyond`, 0 elsewhere."""
        mask = torch.zeros(beyond.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(self.uploads.send(beyond), float("-inf"))


class CpuSdpaAttention(SdpaAttention[Cache]):
    """Computes half-precision attention with one query per key/value head in float32.

    torch's kernel for that case is slow on a CPU: with 8 heads of 64, 16 sequences and 256 tokens
    it takes 8 ms in bfloat16 and 0.8 ms in float32.
    """

    def _attend_folded(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if q.shape[2] > 1 or q.dtype == torch.float32:
            return super()._attend_folded(q, k, v, mask)
        wide = mask if mask is None else mask.float()
        return super()._attend_folded(q.float(), k.float(), v.float(), wide).to(q.dtype)


def decode_buckets(contexts: Int64Array) -> list[tuple[int, int]]:
    """Cut descending context lengths into runs of similar length.

    A run ends where its padding would cost more than another run, see _BUCKET_COST.

    Args:
        contexts: [n]

    Returns:
        First and last + 1 of each run; together all of 0..n-1.
    """
    buckets = []
    first, padding = 0, 0
    for i, context in enumerate(contexts.tolist()):
        padding += int(contexts[first]) - context
        if padding > _BUCKET_COST:
            buckets.append((first, i))
            first, padding = i, 0
    if len(contexts):
        buckets.append((first, len(contexts)))
    return buckets
