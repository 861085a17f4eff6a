"""The `triton` backend: attention over the paged cache by Triton kernels.

The contexts of sequences with one new token (decodes) are cut into pieces of about equal length, so
that every multiprocessor has work. Sequences with several new tokens (prefill chunks) are cut into
tiles of queries. Both cuts are lists of items, one item per program, which the host computes from
lengths it knows; nothing is read back from the device.
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
from glmserve_kernels.paged_decode.kernel import count_arrivals, paged_decode
from glmserve_kernels.paged_decode.split_plan import (
    max_items,
    programs_at_once,
    split_contexts,
)
from glmserve_kernels.paged_prefill.kernel import paged_prefill
from glmserve_kernels.paged_prefill.split_plan import max_tiles, query_tiles, tokens_per_tile
from glmserve_kernels.tiles import load_tiles


class Partials(NamedTuple):
    """Scratch for the results of W items, before the kernel merges them, and their counters."""

    out: Tensor
    """float32 [W, Hq, D]: attention over the item's positions."""
    lse: Tensor
    """float32 [W, Hq]: log2 of the sum of 2^(score * log2(e)) over these positions."""
    arrivals: Tensor
    """int32: counters of items, see paged_decode."""


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """The D sequences with one new token: the first D rows of the step."""

    count: int
    """D. In a plan of fixed shape, the rows behind the decodes are not written."""
    items: Tensor
    """int32 [W, 3]: (sequence, first position, end position); -1: no work. See
    paged_decode.split_plan.split_contexts."""
    item_start: Tensor
    """int32 [D + 1]: index of each sequence's first item; then the number of items in use."""
    partials: Partials


@dataclass(frozen=True, slots=True)
class PrefillPlan:
    """The sequences with several new tokens, behind the decodes."""

    query_start: Tensor
    """int32 [B + 1]: each sequence's first token; then the number of tokens."""
    context_lens: Tensor
    """int32 [B]: tokens of each sequence, the new ones included."""
    items: Tensor
    """int32 [n, 2]: (sequence, first query of the tile), see
    paged_prefill.split_plan.query_tiles; -1: no work."""


@dataclass(frozen=True, slots=True)
class PagedPlan:
    """What all layers of one step share. T tokens, B sequences."""

    positions: Tensor
    """int64 [T]"""
    slots: Tensor
    """int64 [T]: cache slot of each new token; -1: padding, nothing is cached."""
    block_tables: Tensor
    """int32 [B, blocks of the longest sequence]: block ids."""
    decode: DecodePlan | None
    """None: no sequence has one new token."""
    prefill: PrefillPlan | None
    """None: no sequence has several new tokens."""


class PagedAttention(PagedBackend[PagedPlan]):
    """The `triton` AttentionBackend. It can also plan steps of a fixed shape, for graphs."""

    def __init__(self, geometry: PagedGeometry) -> None:
        super().__init__(geometry)
        self._decode_tiles = load_tiles("paged_decode", geometry.chip)
        self._prefill_tiles = load_tiles("paged_prefill", geometry.chip)
        name = f"{8 * geometry.cache_dtype.itemsize}-bit cache"
        group = geometry.num_heads // geometry.num_kv_heads
        self._tokens_per_tile = tokens_per_tile(group, self._prefill_tiles[name])
        self._programs = programs_at_once(self._decode_tiles[name], geometry.multiprocessors)

    # --- once per step -------------------------------------------------------------------------

    def static_specs(self, shape: StepShape) -> dict[str, ArraySpec]:
        """See StaticAttention."""
        specs = slot_specs(shape, self._geometry.block_size)
        if shape.decodes:
            specs["items"] = ArraySpec((self._max_items(shape), 3), "int32")
            specs["item_start"] = ArraySpec((shape.decodes + 1,), "int32")
        if shape.prompts:
            tiles = max_tiles(shape.tokens, shape.prompts, self._tokens_per_tile)
            specs["query_start"] = ArraySpec((shape.sequences + 1,), "int32")
            specs["context_lens"] = ArraySpec((shape.sequences,), "int32")
            specs["tiles"] = ArraySpec((tiles, 2), "int32")
        return specs

    def fill_static(self, batch: Batch, host: HostArrays) -> None:
        """See StaticAttention."""
        fill_slots(batch, host)
        decodes = batch.num_decodes
        if "items" in host:
            contexts = np.zeros(len(host["item_start"]) - 1, dtype=np.int64)
            contexts[:decodes] = batch.context_lens[:decodes]
            items, start = split_contexts(
                contexts, len(host["items"]), block_size=self._geometry.block_size
            )
            host["items"][:], host["item_start"][:] = items, start
        if "tiles" in host:
            fill_lengths(batch, host)
            queries = np.diff(batch.query_start)
            queries[:decodes] = 0
            tiles = query_tiles(queries, self._tokens_per_tile)
            host["tiles"][: len(tiles)] = tiles
            host["tiles"][len(tiles) :] = -1

    def static_plan(
        self, arrays: Mapping[str, Tensor], positions: Tensor, scratch: Tensor
    ) -> PagedPlan:
        """See StaticAttention."""
        decode, prefill = None, None
        if "items" in arrays:
            decode = DecodePlan(
                count=len(arrays["item_start"]) - 1,
                items=arrays["items"],
                item_start=arrays["item_start"],
                partials=self._partials(len(arrays["items"]), scratch),
            )
        if "tiles" in arrays:
            prefill = PrefillPlan(arrays["query_start"], arrays["context_lens"], arrays["tiles"])
        return PagedPlan(positions, arrays["slots"], arrays["block_tables"], decode, prefill)

    def scratch_size(self, shape: StepShape) -> int:
        """See StaticAttention."""
        return sum(self._partial_sizes(self._max_items(shape))) if shape.decodes else 0

    def _max_items(self, shape: StepShape) -> int:
        return max_items(shape.decodes, self.num_kv_heads, self._programs)

    def _partials(self, num_items: int, scratch: Tensor) -> Partials:
        heads, dim = self._geometry.num_heads, self._geometry.head_dim
        sizes = self._partial_sizes(num_items)
        out, lse = torch.split(scratch[: sum(sizes)], sizes)
        rows = num_items * heads
        return Partials(
            out[: rows * dim].view(num_items, heads, dim),
            lse[:rows].view(num_items, heads),
            self._arrivals.at_least(count_arrivals(num_items, self.num_kv_heads), self.device),
        )

    def _partial_sizes(self, num_items: int) -> list[int]:
        """Numbers of Partials' tensors, each rounded up for the alignment of the next one."""
        rows = num_items * self._geometry.num_heads
        return [aligned(rows * self._geometry.head_dim), aligned(rows)]

    # --- per layer -----------------------------------------------------------------------------

    def run(self, qkv: Tensor, cache: PagedCache, plan: PagedPlan) -> Tensor:
        queries = qkv[:, : self._geometry.num_heads]
        out = torch.empty(queries.shape, dtype=qkv.dtype, device=qkv.device)
        common = {
            **cache._asdict(),
            "block_tables": plan.block_tables,
            "scale": self._geometry.head_dim**-0.5,
        }
        if plan.decode is not None:
            count = plan.decode.count
            paged_decode(
                q=queries[:count],
                out=out[:count],
                items=plan.decode.items,
                item_start=plan.decode.item_start,
                partial_out=plan.decode.partials.out,
                partial_lse=plan.decode.partials.lse,
                arrivals=plan.decode.partials.arrivals,
                tiles=self._decode_tiles,
                **common,
            )
        if plan.prefill is not None:
            paged_prefill(
                q=queries,
                out=out,
                query_start=plan.prefill.query_start,
                context_lens=plan.prefill.context_lens,
                items=plan.prefill.items,
                tokens_per_tile=self._tokens_per_tile,
                tiles=self._prefill_tiles,
                **common,
            )
        return out
