"""Triton operations whose results for a token are the same bits whatever shares its step.

Norms, rotation and activations work row by row as they are; attention and matrix products have
kernels of their own, with one tile shape and one order of summation for every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.ops.base import PackedWeight
from glmserve.ops.batch import Batch, Int64Array
from glmserve.ops.paged_cache import PagedBackend, PagedCache, PagedGeometry
from glmserve.ops.quantized import QuantizedWeight
from glmserve.ops.quantized_triton import PackedCodes
from glmserve.ops.static_arrays import ArraySpec
from glmserve.ops.triton import TritonOps
from glmserve_kernels.batch_invariant_attention.kernel import batch_invariant_attention
from glmserve_kernels.batch_invariant_attention.split_plan import PIECE, max_items, plan
from glmserve_kernels.batch_invariant_matmul.kernel import batch_invariant_matmul, count_chunks
from glmserve_kernels.tiles import load_tiles

_FEW_ROWS = 16
"""Up to here the sum over K is shared among programs, which does not change its bits."""


class BatchInvariantTritonOps(TritonOps):
    """TritonOps with matrix products that do not depend on the number of rows."""

    def __init__(self, attention: BatchInvariantPagedAttention, chip: str) -> None:
        super().__init__(attention, chip)
        self._matmul_tiles = load_tiles("batch_invariant_matmul", chip)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        if isinstance(weight, PackedCodes):
            weight = self._quantized.dequantized(weight, x.dtype)
        elif isinstance(weight, QuantizedWeight):
            weight = weight.dequantized(x.dtype)
        rows, outputs = len(x), len(weight)
        out = torch.empty((rows, outputs), dtype=x.dtype, device=x.device)
        partial = None
        if rows <= _FEW_ROWS:
            chunks = count_chunks(x.shape[1], self._matmul_tiles)
            partial = torch.empty((chunks, rows, outputs), device=x.device)
        batch_invariant_matmul(
            x=x, weight=weight, bias=bias, out=out, partial=partial, tiles=self._matmul_tiles
        )
        return out


class _Partials(NamedTuple):
    """Scratch: softmaxes of pieces, before they are merged."""

    out: Tensor
    """float32 [W, Hq, D]"""
    top: Tensor
    """float32 [W, Hq]"""
    total: Tensor
    """float32 [W, Hq]"""


@dataclass(frozen=True, slots=True)
class BatchInvariantPlan:
    """What all layers of one step share."""

    positions: Tensor
    """int64 [T]"""
    slots: Tensor
    """int64 [T]; -1: padding, nothing is cached."""
    block_tables: Tensor
    query_start: Tensor
    context_lens: Tensor
    work: Tensor
    work_start: Tensor
    partials: _Partials


class BatchInvariantPagedAttention(PagedBackend):
    """The `triton` backend with --deterministic."""

    def __init__(self, geometry: PagedGeometry) -> None:
        super().__init__(geometry)
        self._tiles = load_tiles("batch_invariant_attention", geometry.chip)
        self._group = geometry.num_heads // geometry.num_kv_heads
        self._static_partials: _Partials | None = None

    # --- a step of any shape -------------------------------------------------------------------

    def plan(self, batch: Batch, cache: PagedCache) -> BatchInvariantPlan:
        query_lens = np.diff(batch.query_start)
        items = max_items(query_lens, int(batch.context_lens.max()), self._group, PIECE)
        work, work_start = self._work(query_lens, batch.context_lens, items)
        return BatchInvariantPlan(
            positions=self._send(batch.positions),
            slots=self._send(batch.slot_mapping),
            block_tables=self._send(batch.block_tables.astype(np.int32)),
            query_start=self._send(batch.query_start.astype(np.int32)),
            context_lens=self._send(batch.context_lens.astype(np.int32)),
            work=self._send(work),
            work_start=self._send(work_start),
            partials=self._partials(items),
        )

    def _work(
        self, query_lens: Int64Array, context_lens: Int64Array, items: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        page = self._geometry.block_size
        return plan(query_lens, context_lens, items, group=self._group, page=page)

    def _partials(self, items: int) -> _Partials:
        shape = (items, self._geometry.num_heads)
        return _Partials(
            torch.empty((*shape, self._geometry.head_dim), device=self.device),
            torch.empty(shape, device=self.device),
            torch.empty(shape, device=self.device),
        )

    # --- decode steps of fixed shapes, for graphs ----------------------------------------------

    def static_specs(self, batch_size: int, max_context: int) -> dict[str, ArraySpec]:
        """Arrays that a step of `batch_size` decodes needs, padding included."""
        ones = np.ones(batch_size, dtype=np.int64)
        pages = -(-max_context // self._geometry.block_size)
        items = max_items(ones, max_context, self._group, PIECE)
        return {
            "slots": ArraySpec((batch_size,), "int64"),
            "block_tables": ArraySpec((batch_size, pages), "int32"),
            "query_start": ArraySpec((batch_size + 1,), "int32"),
            "context_lens": ArraySpec((batch_size,), "int32"),
            "work": ArraySpec((items, 4), "int32"),
            "work_start": ArraySpec((batch_size + 1,), "int32"),
        }

    def fill_static(self, batch: Batch, host: Mapping[str, NDArray[Any]]) -> None:
        """Write a step of decodes; rows beyond it become padding."""
        count, width = batch.block_tables.shape
        size = len(host["slots"])
        host["slots"][:count] = batch.slot_mapping
        host["slots"][count:] = -1
        host["block_tables"][:count, :width] = batch.block_tables
        host["query_start"][:] = np.arange(size + 1)
        contexts = np.zeros(size, dtype=np.int64)
        contexts[:count] = batch.context_lens
        host["context_lens"][:] = contexts
        work, start = self._work(np.ones_like(contexts), contexts, len(host["work"]))
        host["work"][:], host["work_start"][:] = work, start

    def static_plan(self, arrays: Mapping[str, Tensor], positions: Tensor) -> BatchInvariantPlan:
        """The plan that reads what `fill_static` wrote."""
        items = len(arrays["work"])
        # Graphs run one after the other: they share their scratch, as long as it is large enough.
        if self._static_partials is None or len(self._static_partials.out) < items:
            self._static_partials = self._partials(items)
        return BatchInvariantPlan(
            positions=positions,
            slots=arrays["slots"],
            block_tables=arrays["block_tables"],
            query_start=arrays["query_start"],
            context_lens=arrays["context_lens"],
            work=arrays["work"],
            work_start=arrays["work_start"],
            partials=_Partials(*(tensor[:items] for tensor in self._static_partials)),
        )

    # --- per layer -----------------------------------------------------------------------------

    def run(self, qkv: Tensor, cache: PagedCache, plan: BatchInvariantPlan) -> Tensor:
        queries = qkv[:, : self._geometry.num_heads]
        out = torch.empty(queries.shape, dtype=qkv.dtype, device=qkv.device)
        batch_invariant_attention(
            q=queries,
            block_tables=plan.block_tables,
            query_start=plan.query_start,
            context_lens=plan.context_lens,
            work=plan.work,
            work_start=plan.work_start,
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
