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

from glmserve.ops.batch import Batch
from glmserve.ops.static_arrays import ArraySpec
from glmserve_kernels.paged_decode.kernel import paged_decode
from glmserve_kernels.paged_decode.work import max_items, split_work
from glmserve_kernels.paged_prefill.kernel import paged_prefill
from glmserve_kernels.paged_prefill.work import query_tiles, tokens_per_tile
from glmserve_kernels.tiles import load_tiles


class PagedCache(NamedTuple):
    """One layer; number = code * scale where there are scales."""

    keys: Tensor
    """[num_blocks, Hkv, block_size, D]"""
    values: Tensor
    """The same; [num_blocks, Hkv, D, block_size] if its numbers have 8 bits."""
    key_scales: Tensor | None
    """float32 [num_blocks, Hkv, block_size]"""
    value_scales: Tensor | None


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """Sequences with one new token: the first rows of the step."""

    count: int
    block_tables: Tensor
    work: Tensor
    work_start: Tensor
    partial_out: Tensor
    partial_lse: Tensor


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


class PagedAttention:
    """The `triton` backend.

    Args:
        num_heads, num_kv_heads, head_dim: Hq, Hkv, D.
        cache_dtype: of K and V: that of the activations, int8 or float8_e4m3fn.
        device: where everything is.
        chip: whose tiles to use: "sm_90", "gfx942", ...
        multiprocessors: how many it has.
        block_size: token slots per block; a power of two from 16 on.
    """

    def __init__(
        self,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        cache_dtype: torch.dtype,
        device: torch.device,
        chip: str,
        multiprocessors: int,
        block_size: int,
    ) -> None:
        self.num_kv_heads = num_kv_heads
        self.device = device
        self._num_heads = num_heads
        self._head_dim = head_dim
        self._cache_dtype = cache_dtype
        self._multiprocessors = multiprocessors
        self._block_size = block_size
        self._decode_tiles = load_tiles("paged_decode", chip)
        self._prefill_tiles = load_tiles("paged_prefill", chip)
        tile = self._prefill_tiles[f"{8 * cache_dtype.itemsize}-bit cache"]
        self._tokens_per_tile = tokens_per_tile(num_heads // num_kv_heads, tile)

    @property
    def has_scales(self) -> bool:
        """Whether the cache holds codes."""
        return self._cache_dtype.itemsize == 1

    def token_bytes(self, head_dim: int) -> int:
        scale = torch.float32.itemsize if self.has_scales else 0
        return 2 * self.num_kv_heads * (head_dim * self._cache_dtype.itemsize + scale)

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[PagedCache]:
        return [self._allocate_layer(num_blocks, head_dim) for _ in range(num_layers)]

    def _allocate_layer(self, num_blocks: int, head_dim: int) -> PagedCache:
        heads, page = (num_blocks, self.num_kv_heads), self._block_size

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros((*heads, *shape), dtype=dtype, device=self.device)

        values = (head_dim, page) if self.has_scales else (page, head_dim)
        return PagedCache(
            zeros(page, head_dim, dtype=self._cache_dtype),
            zeros(*values, dtype=self._cache_dtype),
            zeros(page, dtype=torch.float32) if self.has_scales else None,
            zeros(page, dtype=torch.float32) if self.has_scales else None,
        )

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
        work, work_start = split_work(contexts, self._max_items(count), page=self._block_size)
        return self._decode_plan(
            count,
            {
                "block_tables": self._send(batch.block_tables[:count].astype(np.int32)),
                "work": self._send(work),
                "work_start": self._send(work_start),
            },
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

    def _send(self, array: NDArray[Any]) -> Tensor:
        """To the device, without waiting: the driver has copied it when this returns."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    # --- decode steps of fixed shapes, for graphs ----------------------------------------------

    def static_specs(self, batch_size: int, max_context: int) -> dict[str, ArraySpec]:
        """Arrays that a step of `batch_size` decodes needs, padding included."""
        return {
            "slots": ArraySpec((batch_size,), "int64"),
            "block_tables": ArraySpec((batch_size, -(-max_context // self._block_size)), "int32"),
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
        work, start = split_work(contexts, len(host["work"]), page=self._block_size)
        host["work"][:], host["work_start"][:] = work, start

    def static_plan(self, arrays: Mapping[str, Tensor], positions: Tensor) -> PagedPlan:
        """The plan that reads what `fill_static` wrote."""
        decode = self._decode_plan(len(positions), arrays)
        return PagedPlan(positions, arrays["slots"], decode, None)

    def _max_items(self, batch_size: int) -> int:
        return max_items(batch_size, self.num_kv_heads, self._multiprocessors)

    def _decode_plan(self, count: int, arrays: Mapping[str, Tensor]) -> DecodePlan:
        shape = (len(arrays["work"]), self._num_heads)
        return DecodePlan(
            count,
            arrays["block_tables"],
            arrays["work"],
            arrays["work_start"],
            torch.empty((*shape, self._head_dim), dtype=torch.float32, device=self.device),
            torch.empty(shape, dtype=torch.float32, device=self.device),
        )

    # --- per layer -----------------------------------------------------------------------------

    def write(self, key_values: Tensor, cache: PagedCache, plan: PagedPlan) -> None:
        """Not how the model writes, see TritonOps: that rotates and quantises on the way."""
        blocks, offsets = plan.slots // self._block_size, plan.slots % self._block_size
        keys, values = key_values.chunk(2, dim=1)
        cache.keys[blocks, :, offsets] = keys
        cache.values[blocks, :, offsets] = values

    def run(self, qkv: Tensor, cache: PagedCache, plan: PagedPlan) -> Tensor:
        queries = qkv[:, : self._num_heads]
        out = torch.empty(queries.shape, dtype=qkv.dtype, device=qkv.device)
        common = {**cache._asdict(), "scale": self._head_dim**-0.5}
        if plan.decode is not None:
            count = plan.decode.count
            paged_decode(
                q=queries[:count],
                out=out[:count],
                block_tables=plan.decode.block_tables,
                work=plan.decode.work,
                work_start=plan.decode.work_start,
                partial_out=plan.decode.partial_out,
                partial_lse=plan.decode.partial_lse,
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
