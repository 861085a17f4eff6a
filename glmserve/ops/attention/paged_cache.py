"""The KV cache of the Triton kernels: the slots of a block and head are contiguous."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from glmserve.ops.arrivals import Arrivals
from glmserve.ops.batch import Batch
from glmserve.ops.packed_arrays import ArraySpec, HostArrays, StaticArrays, packed_bytes
from glmserve.ops.step_shape import StepShape, shape_of
from glmserve.ops.uploads import Uploads


class PagedCache(NamedTuple):
    """One layer. Where there are scales, number = code * scale."""

    keys: Tensor
    """[num_blocks, Hkv, block_size, D]"""
    values: Tensor
    """[num_blocks, Hkv, block_size, D]; of 8-bit numbers [num_blocks, Hkv, D, block_size]."""
    key_scales: Tensor | None
    """float32 [num_blocks, Hkv, block_size]; None: numbers have 16 or 32 bits."""
    value_scales: Tensor | None
    """As key_scales."""


class PagedGeometry(NamedTuple):
    """Sizes of the model, of the cache and of the GPU."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    cache_dtype: torch.dtype
    """Of K and V: that of the activations, int8 or float8_e4m3fn."""
    uploads: Uploads
    """To the GPU."""
    chip: str
    """Selects the tile sizes: "sm_90", "gfx942", ..."""
    multiprocessors: int
    """How many the chip has."""
    block_size: int
    """Token slots per block: a power of two, at least 16."""


class PagedStepPlan(Protocol):
    """The part of a plan that writing to a PagedCache reads."""

    @property
    def positions(self) -> Tensor:
        """int64 [T]"""
        ...

    @property
    def slots(self) -> Tensor:
        """int64 [T]: cache slot of each new token; -1: padding, nothing is cached."""
        ...


PagedPlanT = TypeVar("PagedPlanT", bound=PagedStepPlan)


class PagedBackend(Generic[PagedPlanT]):
    """Allocates and writes the cache, and plans steps by the plans of fixed shapes; subclasses add
    these, and `run` of an AttentionBackend."""

    def __init__(self, geometry: PagedGeometry) -> None:
        self.num_kv_heads = geometry.num_kv_heads
        self.device = geometry.uploads.device
        self.uploads = geometry.uploads
        self._geometry = geometry
        self._arrivals = Arrivals()

    # --- plans ---------------------------------------------------------------------------------

    def plan(self, batch: Batch, cache: PagedCache) -> PagedPlanT:
        """A plan in the shape of this step."""
        shape = shape_of(batch)
        specs = self.static_specs(shape)
        specs["positions"] = ArraySpec((shape.tokens,), "int64")
        buffer = torch.empty(packed_bytes(specs), dtype=torch.uint8, device=self.device)
        arrays = StaticArrays(specs, self.uploads, buffer)
        self.fill_static(batch, arrays.host)
        arrays.host["positions"][:] = batch.positions
        arrays.upload()
        scratch = torch.empty(self.scratch_size(shape), device=self.device)
        return self.static_plan(arrays.device, arrays.device["positions"], scratch)

    def static_specs(self, shape: StepShape) -> dict[str, ArraySpec]:
        """See StaticAttention."""
        raise NotImplementedError

    def fill_static(self, batch: Batch, host: HostArrays) -> None:
        """See StaticAttention."""
        raise NotImplementedError

    def static_plan(
        self, arrays: Mapping[str, Tensor], positions: Tensor, scratch: Tensor
    ) -> PagedPlanT:
        """See StaticAttention."""
        raise NotImplementedError

    def scratch_size(self, shape: StepShape) -> int:
        """See StaticAttention."""
        raise NotImplementedError

    # --- the cache -----------------------------------------------------------------------------

    def token_bytes(self, head_dim: int) -> int:
        dtype = self._geometry.cache_dtype
        scale = torch.float32.itemsize if _has_scales(dtype) else 0
        return 2 * self.num_kv_heads * (head_dim * dtype.itemsize + scale)

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[PagedCache]:
        return [self._allocate_layer(num_blocks, head_dim) for _ in range(num_layers)]

    def write(self, key_values: Tensor, cache: PagedCache, plan: PagedStepPlan) -> None:
        """Store K and V without scales. Models use TritonOps.self_attention instead, which rotates
        and quantises in the same kernel."""
        block_size = self._geometry.block_size
        blocks, offsets = plan.slots // block_size, plan.slots % block_size
        keys, values = key_values.chunk(2, dim=1)
        cache.keys[blocks, :, offsets] = keys
        cache.values[blocks, :, offsets] = values

    def _allocate_layer(self, num_blocks: int, head_dim: int) -> PagedCache:
        block_size, dtype = self._geometry.block_size, self._geometry.cache_dtype

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            heads = (num_blocks, self.num_kv_heads)
            return torch.zeros((*heads, *shape), dtype=dtype, device=self.device)

        if not _has_scales(dtype):
            shape = (block_size, head_dim)
            return PagedCache(zeros(*shape, dtype=dtype), zeros(*shape, dtype=dtype), None, None)
        return PagedCache(
            zeros(block_size, head_dim, dtype=dtype),
            zeros(head_dim, block_size, dtype=dtype),
            zeros(block_size, dtype=torch.float32),
            zeros(block_size, dtype=torch.float32),
        )


def slot_specs(shape: StepShape, block_size: int) -> dict[str, ArraySpec]:
    """Shapes of what `fill_slots` writes."""
    blocks = -(-shape.context // block_size)
    return {
        "slots": ArraySpec((shape.tokens,), "int64"),
        "block_tables": ArraySpec((shape.sequences, blocks), "int32"),
    }


def fill_slots(batch: Batch, host: HostArrays) -> None:
    """Write the slots of a step, -1 for padding, and its block tables. What is behind a sequence's
    own blocks has no meaning."""
    tokens, sequences = len(batch.slot_mapping), len(batch.block_tables)
    host["slots"][:tokens] = batch.slot_mapping
    host["slots"][tokens:] = -1
    width = min(batch.block_tables.shape[1], host["block_tables"].shape[1])
    host["block_tables"][:sequences, :width] = batch.block_tables[:, :width]


def fill_lengths(batch: Batch, host: HostArrays) -> None:
    """Write `query_start` and `context_lens` of a step; sequences of padding have no tokens."""
    sequences = len(batch.context_lens)
    host["query_start"][: sequences + 1] = batch.query_start
    host["query_start"][sequences + 1 :] = batch.query_start[-1]
    host["context_lens"][:sequences] = batch.context_lens
    host["context_lens"][sequences:] = 0


def aligned(count: int) -> int:
    """`count` float32 numbers, rounded up so that what follows them begins at 16 bytes."""
    return -(-count // 4) * 4


def _has_scales(dtype: torch.dtype) -> bool:
    """Whether the cache holds codes and scales: its numbers have 8 bits."""
    return dtype.itemsize == 1
