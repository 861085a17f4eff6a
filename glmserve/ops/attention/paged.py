"""The `triton` backend: attention over the paged cache by Triton kernels.

The contexts of sequences with one new token (decodes) are cut into pieces of about equal length, so
that every multiprocessor has work. Sequences with several new tokens (prefill chunks) are cut into
tiles of queries. Both cuts are lists of items, one item per program, which the host computes from
lengths it knows; nothing is read back from the device.
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
from glmserve_kernels.paged_decode.kernel import paged_decode
from glmserve_kernels.paged_decode.split_plan import max_items, split_contexts
from glmserve_kernels.paged_prefill.kernel import paged_prefill
from glmserve_kernels.paged_prefill.split_plan import query_tiles, tokens_per_tile
from glmserve_kernels.tiles import load_tiles


class Partials(NamedTuple):
    """Scratch for the results of W items, before the kernel merges them."""

    out: Tensor
    """float32 [W, Hq, D]: attention over the item's positions."""
    lse: Tensor
    """float32 [W, Hq]: log2 of the sum of 2^(score * log2(e)) over these positions."""


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """The B sequences with one new token: the first B rows of the step."""

    count: int
    """B"""
    block_tables: Tensor
    """int32 [B, blocks of the longest sequence]: block ids."""
    items: Tensor
    """int32 [W, 3]: (sequence, first position, end position); -1: no work. See
    paged_decode.split_plan.split_contexts."""
    item_start: Tensor
    """int32 [B + 1]: index of each sequence's first item; then the number of items in use."""
    partials: Partials


@dataclass(frozen=True, slots=True)
class PrefillPlan:
    """The P sequences with several new tokens: the rows from `first_row` on."""

    first_row: int
    block_tables: Tensor
    """int32 [P, blocks of the longest sequence of the step]: block ids."""
    query_start: Tensor
    """int32 [P + 1]: each sequence's first token, counted from `first_row`; then their number."""
    context_lens: Tensor
    """int32 [P]: tokens of each sequence, the new ones included."""
    items: Tensor
    """int32 [n, 2]: (sequence, first query of the tile), see
    paged_prefill.split_plan.query_tiles."""


@dataclass(frozen=True, slots=True)
class PagedPlan:
    """What all layers of one step share."""

    positions: Tensor
    """int64 [T]"""
    slots: Tensor
    """int64 [T]: cache slot of each new token; -1: padding, nothing is cached."""
    decode: DecodePlan | None
    """None: no sequence has one new token."""
    prefill: PrefillPlan | None
    """None: no sequence has several new tokens."""


class PagedAttention(PagedBackend):
    """The `triton` AttentionBackend. It can also plan decode steps of a fixed shape, for graphs."""

    def __init__(self, geometry: PagedGeometry) -> None:
        super().__init__(geometry)
        self._decode_tiles = load_tiles("paged_decode", geometry.chip)
        self._prefill_tiles = load_tiles("paged_prefill", geometry.chip)
        tile = self._prefill_tiles[f"{8 * geometry.cache_dtype.itemsize}-bit cache"]
        group = geometry.num_heads // geometry.num_kv_heads
        self._tokens_per_tile = tokens_per_tile(group, tile)
        self._static_partials: Partials | None = None

    # --- a step of any shape -------------------------------------------------------------------

    def plan(self, batch: Batch, cache: PagedCache) -> PagedPlan:
        decodes, sequences = batch.num_decodes, len(batch.context_lens)
        return PagedPlan(
            positions=self._send(batch.positions),
            slots=self._send(batch.slot_mapping),
            decode=self._plan_decode(batch) if decodes else None,
            prefill=self._plan_prefill(batch) if decodes < sequences else None,
        )

    def _plan_decode(self, batch: Batch) -> DecodePlan:
        count = batch.num_decodes
        contexts = batch.context_lens[:count]
        items, item_start = self._split(contexts, self._max_items(count))
        return DecodePlan(
            count=count,
            block_tables=self._send(batch.block_tables[:count].astype(np.int32)),
            items=self._send(items),
            item_start=self._send(item_start),
            partials=self._partials(len(items)),
        )

    def _plan_prefill(self, batch: Batch) -> PrefillPlan:
        first = batch.num_decodes
        lengths = np.diff(batch.query_start[first:])
        query_start = batch.query_start[first:] - batch.query_start[first]
        return PrefillPlan(
            first_row=int(batch.query_start[first]),
            block_tables=self._send(batch.block_tables[first:].astype(np.int32)),
            query_start=self._send(query_start.astype(np.int32)),
            context_lens=self._send(batch.context_lens[first:].astype(np.int32)),
            items=self._send(query_tiles(lengths, self._tokens_per_tile)),
        )

    # --- decode steps of fixed shapes, for graphs ----------------------------------------------

    def static_specs(self, batch_size: int, max_context: int) -> dict[str, ArraySpec]:
        """See StaticAttention."""
        blocks = -(-max_context // self._geometry.block_size)
        return {
            "slots": ArraySpec((batch_size,), "int64"),
            "block_tables": ArraySpec((batch_size, blocks), "int32"),
            "items": ArraySpec((self._max_items(batch_size), 3), "int32"),
            "item_start": ArraySpec((batch_size + 1,), "int32"),
        }

    def fill_static(self, batch: Batch, host: Mapping[str, NDArray[Any]]) -> None:
        """See StaticAttention."""
        count, width = batch.block_tables.shape
        host["slots"][:count] = batch.slot_mapping
        host["slots"][count:] = -1
        host["block_tables"][:count, :width] = batch.block_tables
        contexts = np.zeros(len(host["slots"]), dtype=np.int64)
        contexts[:count] = batch.context_lens
        items, start = self._split(contexts, len(host["items"]))
        host["items"][:], host["item_start"][:] = items, start

    def static_plan(self, arrays: Mapping[str, Tensor], positions: Tensor) -> PagedPlan:
        """See StaticAttention."""
        num_items = len(arrays["items"])
        # Graphs run one after the other, so they share their scratch.
        if self._static_partials is None or len(self._static_partials.out) < num_items:
            self._static_partials = self._partials(num_items)
        decode = DecodePlan(
            count=len(positions),
            block_tables=arrays["block_tables"],
            items=arrays["items"],
            item_start=arrays["item_start"],
            partials=Partials(*(tensor[:num_items] for tensor in self._static_partials)),
        )
        return PagedPlan(positions, arrays["slots"], decode, None)

    def _max_items(self, batch_size: int) -> int:
        return max_items(batch_size, self.num_kv_heads, self._geometry.multiprocessors)

    def _split(
        self, contexts: Int64Array, num_items: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return split_contexts(contexts, num_items, block_size=self._geometry.block_size)

    def _partials(self, num_items: int) -> Partials:
        shape = (num_items, self._geometry.num_heads)
        return Partials(
            torch.empty((*shape, self._geometry.head_dim), device=self.device),
            torch.empty(shape, device=self.device),
        )

    # --- per layer -----------------------------------------------------------------------------

    def run(self, qkv: Tensor, cache: PagedCache, plan: PagedPlan) -> Tensor:
        queries = qkv[:, : self._geometry.num_heads]
        out = torch.empty(queries.shape, dtype=qkv.dtype, device=qkv.device)
        common = {**cache._asdict(), "scale": self._geometry.head_dim**-0.5}
        if plan.decode is not None:
            count = plan.decode.count
            paged_decode(
                q=queries[:count],
                out=out[:count],
                block_tables=plan.decode.block_tables,
                items=plan.decode.items,
                item_start=plan.decode.item_start,
                partial_out=plan.decode.partials.out,
                partial_lse=plan.decode.partials.lse,
                tiles=self._decode_tiles,
                **common,
            )
        if plan.prefill is not None:
            first = plan.prefill.first_row
            paged_prefill(
                q=queries[first:],
                out=out[first:],
                block_tables=plan.prefill.block_tables,
                query_start=plan.prefill.query_start,
                context_lens=plan.prefill.context_lens,
                items=plan.prefill.items,
                tokens_per_tile=self._tokens_per_tile,
                tiles=self._prefill_tiles,
                **common,
            )
        return out
