"""Attention over the paged cache by Triton kernels.

Sequences with one new token (decodes) are cut into pieces of about equal length, whatever their
contexts, so that every multiprocessor has work; those with several are cut into tiles of queries.
The host plans both from lengths it knows; on the device nothing depends on a number read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.ops.batch import Batch, Int64Array
from glmserve.ops.paged_cache import PagedBackend, PagedCache, PagedGeometry
from glmserve.ops.static_arrays import ArraySpec
from glmserve_kernels.paged_decode.kernel import paged_decode
from glmserve_kernels.paged_decode.split_plan import max_items, split_work
from glmserve_kernels.paged_prefill.kernel import paged_prefill
from glmserve_kernels.paged_prefill.split_plan import query_tiles, tokens_per_tile
from glmserve_kernels.tiles import load_tiles


class Partials(NamedTuple):
    """Scratch: results of pieces, before they are merged."""

    out: Tensor
    """float32 [W, Hq, D]"""
    lse: Tensor
    """float32 [W, Hq]"""


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """Sequences with one new token: the first rows of the step."""

    count: int
    block_tables: Tensor
    work: Tensor
    work_start: Tensor
    partials: Partials


@dataclass(frozen=True, slots=True)
class PrefillPlan:
    """Sequences with several new tokens: the rows from `first_row` on."""

    first_row: int
    block_tables: Tensor
    query_start: Tensor
    context_lens: Tensor
    work: Tensor


@dataclass(frozen=True, slots=True)
class PagedPlan:
    """What all layers of one step share."""

    positions: Tensor
    """int64 [T]"""
    slots: Tensor
    """int64 [T]; -1: padding, nothing is cached."""
    decode: DecodePlan | None
    prefill: PrefillPlan | None


class PagedAttention(PagedBackend):
    """The `triton` backend."""

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
        work, work_start = split_work(
            contexts, self._max_items(count), page=self._geometry.block_size
        )
        return DecodePlan(
            count=count,
            block_tables=self._send(batch.block_tables[:count].astype(np.int32)),
            work=self._send(work),
            work_start=self._send(work_start),
            partials=self._partials(len(work)),
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
            work=self._send(query_tiles(lengths, self._tokens_per_tile)),
        )

    # --- decode steps of fixed shapes, for graphs ----------------------------------------------

    def static_specs(self, batch_size: int, max_context: int) -> dict[str, ArraySpec]:
        """Arrays that a step of `batch_size` decodes needs, padding included."""
        pages = -(-max_context // self._geometry.block_size)
        return {
            "slots": ArraySpec((batch_size,), "int64"),
            "block_tables": ArraySpec((batch_size, pages), "int32"),
            "work": ArraySpec((self._max_items(batch_size), 3), "int32"),
            "work_start": ArraySpec((batch_size + 1,), "int32"),
        }

    def fill_static(self, batch: Batch, host: Mapping[str, NDArray[Any]]) -> None:
        """Write a step of decodes; rows beyond it become padding."""
        count, width = batch.block_tables.shape
        host["slots"][:count] = batch.slot_mapping
        host["slots"][count:] = -1
        host["block_tables"][:count, :width] = batch.block_tables
        contexts = np.zeros(len(host["slots"]), dtype=np.int64)
        contexts[:count] = batch.context_lens
        work, start = self._split(contexts, len(host["work"]))
        host["work"][:], host["work_start"][:] = work, start

    def static_plan(self, arrays: Mapping[str, Tensor], positions: Tensor) -> PagedPlan:
        """The plan that reads what `fill_static` wrote."""
        items = len(arrays["work"])
        # Graphs run one after the other: they share their scratch, as long as it is large enough.
        if self._static_partials is None or len(self._static_partials.out) < items:
            self._static_partials = self._partials(items)
        decode = DecodePlan(
            count=len(positions),
            block_tables=arrays["block_tables"],
            work=arrays["work"],
            work_start=arrays["work_start"],
            partials=Partials(*(tensor[:items] for tensor in self._static_partials)),
        )
        return PagedPlan(positions, arrays["slots"], decode, None)

    def _max_items(self, batch_size: int) -> int:
        return max_items(batch_size, self.num_kv_heads, self._geometry.multiprocessors)

    def _split(
        self, contexts: Int64Array, items: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return split_work(contexts, items, page=self._geometry.block_size)

    def _partials(self, items: int) -> Partials:
        shape = (items, self._geometry.num_heads)
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
                work=plan.decode.work,
                work_start=plan.decode.work_start,
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
                work=plan.prefill.work,
                tokens_per_tile=self._tokens_per_tile,
                tiles=self._prefill_tiles,
                **common,
            )
        return out
