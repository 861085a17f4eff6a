"""The `triton` attention backend with batch-invariant results: --deterministic on a GPU.

One tile shape and one order of summation for every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glmserve.ops.attention.paged_cache import (
    PagedBackend,
    PagedCache,
    PagedGeometry,
    aligned,
    fill_lengths,
    fill_slots,
    slot_specs,
)
from glmserve.ops.batch import Batch
from glmserve.ops.packed_arrays import ArraySpec, HostArrays
from glmserve.ops.step_shape import StepShape
from glmserve_kernels.batch_invariant_attention.kernel import (
    batch_invariant_attention,
    count_arrivals,
)
from glmserve_kernels.batch_invariant_attention.split_plan import (
    PIECE,
    split_step,
    tokens_per_tile,
)
from glmserve_kernels.paged_decode.split_plan import max_fixed_items
from glmserve_kernels.paged_prefill.split_plan import max_tiles
from glmserve_kernels.tiles import load_tiles


class _Partials(NamedTuple):
    """Scratch for softmaxes of W items, before the kernel merges them, and their counters."""

    out: Tensor
    """float32 [W, Hq, D]: softmax-weighted sums of values, not yet divided by the total."""
    top: Tensor
    """float32 [W, Hq]: largest scores times log2(e)."""
    total: Tensor
    """float32 [W, Hq]: sums of 2^(score - top)."""
    arrivals: Tensor
    """int32: counters of items, see batch_invariant_attention."""


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


class BatchInvariantPagedAttention(PagedBackend[BatchInvariantPagedPlan]):
    """The `triton` backend with --deterministic."""

    def __init__(self, geometry: PagedGeometry) -> None:
        super().__init__(geometry)
        self._tiles = load_tiles("batch_invariant_attention", geometry.chip)
        self._group = geometry.num_heads // geometry.num_kv_heads

    # --- once per step -------------------------------------------------------------------------

    def static_specs(self, shape: StepShape) -> dict[str, ArraySpec]:
        """See StaticAttention."""
        return {
            **slot_specs(shape, self._geometry.block_size),
            "query_start": ArraySpec((shape.sequences + 1,), "int32"),
            "context_lens": ArraySpec((shape.sequences,), "int32"),
            "items": ArraySpec((self._max_items(shape), 4), "int32"),
            "item_start": ArraySpec((shape.sequences + 1,), "int32"),
        }

    def fill_static(self, batch: Batch, host: HostArrays) -> None:
        """See StaticAttention."""
        fill_slots(batch, host)
        fill_lengths(batch, host)
        items, start = split_step(
            np.diff(host["query_start"]),
            host["context_lens"],
            len(host["items"]),
            group=self._group,
            block_size=self._geometry.block_size,
        )
        host["items"][:], host["item_start"][:] = items, start

    def static_plan(
        self, arrays: Mapping[str, Tensor], positions: Tensor, scratch: Tensor
    ) -> BatchInvariantPagedPlan:
        """See StaticAttention."""
        return BatchInvariantPagedPlan(
            positions=positions,
            slots=arrays["slots"],
            block_tables=arrays["block_tables"],
            query_start=arrays["query_start"],
            context_lens=arrays["context_lens"],
            items=arrays["items"],
            item_start=arrays["item_start"],
            partials=self._partials(len(arrays["items"]), scratch),
        )

    def scratch_size(self, shape: StepShape) -> int:
        """See StaticAttention."""
        return sum(self._partial_sizes(self._max_items(shape)))

    def _max_items(self, shape: StepShape) -> int:
        tokens = tokens_per_tile(self._group)
        pieces = max_fixed_items(shape.decodes, shape.context, PIECE)
        return pieces + max_tiles(shape.tokens, shape.prompts, tokens) if shape.prompts else pieces

    def _partials(self, num_items: int, scratch: Tensor) -> _Partials:
        heads, dim = self._geometry.num_heads, self._geometry.head_dim
        sizes = self._partial_sizes(num_items)
        out, top, total = torch.split(scratch[: sum(sizes)], sizes)
        rows = num_items * heads
        return _Partials(
            out[: rows * dim].view(num_items, heads, dim),
            top[:rows].view(num_items, heads),
            total[:rows].view(num_items, heads),
            self._arrivals.at_least(count_arrivals(num_items, self.num_kv_heads), self.device),
        )

    def _partial_sizes(self, num_items: int) -> list[int]:
        """Numbers of _Partials' tensors, each rounded up for the alignment of the next one."""
        rows = num_items * self._geometry.num_heads
        return [aligned(rows * self._geometry.head_dim), aligned(rows), aligned(rows)]

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
            arrivals=plan.partials.arrivals,
            out=out,
            scale=self._geometry.head_dim**-0.5,
            tiles=self._tiles,
            **cache._asdict(),
        )
        return out
