"""The `triton` attention backend with batch-invariant results: --deterministic on a GPU.

One tile shape and one order of summation for every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.ops.attention.paged_cache import PagedBackend, PagedCache, PagedGeometry
from glmserve.ops.batch import Batch, Int64Array
from glmserve.ops.packed_arrays import ArraySpec
from glmserve_kernels.batch_invariant_attention.kernel import batch_invariant_attention
from glmserve_kernels.batch_invariant_attention.split_plan import PIECE, max_items, split_step
from glmserve_kernels.tiles import load_tiles


class _Partials(NamedTuple):
    """Scratch for softmaxes of W items, before the kernel merges them."""

    out: Tensor
    """float32 [W, Hq, D]: softmax-weighted sums of values, not yet divided by the total."""
    top: Tensor
    """float32 [W, Hq]: largest scores times log2(e)."""
    total: Tensor
    """float32 [W, Hq]: sums of 2^(score - top)."""


@dataclass(frozen=True, slots=True)
class BatchInvariantPagedPlan:
    """What all layers of one step share. T tokens, B sequences, W items of a split plan."""

    positions: Tensor
    """int64 [T]"""
    slots: Tensor
    """int64 [T]: cache slot of each new token; -1: padding, nothing is cached."""
    block_tables: Tensor
    """int32 [B, blocks of the longest sequence]"""
    query_start: Tensor
    """int32 [B + 1]: index of each sequence's first token; then T."""
    context_lens: Tensor
    """int32 [B]: tokens of each sequence, the new ones included."""
    items: Tensor
    """int32 [W, 4]: one row per program, see split_plan.split_step; -1: no work."""
    item_start: Tensor
    """int32 [B + 1]: index of each sequence's first item; then the number of items in use."""
    partials: _Partials


class BatchInvariantPagedAttention(PagedBackend):
    """The `triton` backend with --deterministic."""

    def __init__(self, geometry: PagedGeometry) -> None:
        super().__init__(geometry)
        self._tiles = load_tiles("batch_invariant_attention", geometry.chip)
        self._group = geometry.num_heads // geometry.num_kv_heads
        self._static_partials: _Partials | None = None

    # --- a step of any shape -------------------------------------------------------------------

    def plan(self, batch: Batch, cache: PagedCache) -> BatchInvariantPagedPlan:
        query_lens = np.diff(batch.query_start)
        num_items = max_items(query_lens, int(batch.context_lens.max()), self._group, PIECE)
        items, item_start = self._split(query_lens, batch.context_lens, num_items)
        return BatchInvariantPagedPlan(
            positions=self._send(batch.positions),
            slots=self._send(batch.slot_mapping),
            block_tables=self._send(batch.block_tables.astype(np.int32)),
            query_start=self._send(batch.query_start.astype(np.int32)),
            context_lens=self._send(batch.context_lens.astype(np.int32)),
            items=self._send(items),
            item_start=self._send(item_start),
            partials=self._partials(num_items),
        )

    def _split(
        self, query_lens: Int64Array, context_lens: Int64Array, num_items: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        block_size = self._geometry.block_size
        return split_step(
            query_lens, context_lens, num_items, group=self._group, block_size=block_size
        )

    def _partials(self, num_items: int) -> _Partials:
        shape = (num_items, self._geometry.num_heads)
        return _Partials(
            torch.empty((*shape, self._geometry.head_dim), device=self.device),
            torch.empty(shape, device=self.device),
            torch.empty(shape, device=self.device),
        )

    # --- decode steps of fixed shapes, for graphs ----------------------------------------------

    def static_specs(self, batch_size: int, max_context: int) -> dict[str, ArraySpec]:
        """See StaticAttention."""
        ones = np.ones(batch_size, dtype=np.int64)
        blocks = -(-max_context // self._geometry.block_size)
        num_items = max_items(ones, max_context, self._group, PIECE)
        return {
            "slots": ArraySpec((batch_size,), "int64"),
            "block_tables": ArraySpec((batch_size, blocks), "int32"),
            "query_start": ArraySpec((batch_size + 1,), "int32"),
            "context_lens": ArraySpec((batch_size,), "int32"),
            "items": ArraySpec((num_items, 4), "int32"),
            "item_start": ArraySpec((batch_size + 1,), "int32"),
        }

    def fill_static(self, batch: Batch, host: Mapping[str, NDArray[Any]]) -> None:
        """See StaticAttention."""
        count, width = batch.block_tables.shape
        size = len(host["slots"])
        host["slots"][:count] = batch.slot_mapping
        host["slots"][count:] = -1
        host["block_tables"][:count, :width] = batch.block_tables
        host["query_start"][:] = np.arange(size + 1)
        contexts = np.zeros(size, dtype=np.int64)
        contexts[:count] = batch.context_lens
        host["context_lens"][:] = contexts
        items, start = self._split(np.ones_like(contexts), contexts, len(host["items"]))
        host["items"][:], host["item_start"][:] = items, start

    def static_plan(
        self, arrays: Mapping[str, Tensor], positions: Tensor
    ) -> BatchInvariantPagedPlan:
        """See StaticAttention."""
        num_items = len(arrays["items"])
        # Graphs run one after the other, so they share their scratch.
        if self._static_partials is None or len(self._static_partials.out) < num_items:
            self._static_partials = self._partials(num_items)
        return BatchInvariantPagedPlan(
            positions=positions,
            slots=arrays["slots"],
            block_tables=arrays["block_tables"],
            query_start=arrays["query_start"],
            context_lens=arrays["context_lens"],
            items=arrays["items"],
            item_start=arrays["item_start"],
            partials=_Partials(*(tensor[:num_items] for tensor in self._static_partials)),
        )

    # --- per layer -----------------------------------------------------------------------------

    def run(self, qkv: Tensor, cache: PagedCache, plan: BatchInvariantPagedPlan) -> Tensor:
        queries = qkv[:, : self._geometry.num_heads]
        out = torch.empty(queries.shape, dtype=qkv.dtype, device=qkv.device)
        batch_invariant_attention(
            q=queries,
            block_tables=plan.block_tables,
            query_start=plan.query_start,
            context_lens=plan.context_lens,
            items=plan.items,
            item_start=plan.item_start,
            piece=PIECE,
            partial_out=plan.partials.out,
            partial_top=plan.partials.top,
            partial_total=plan.partials.total,
            out=out,
            scale=self._geometry.head_dim**-0.5,
            tiles=self._tiles,
            **cache._asdict(),
        )
        return out
