"""Operations by Triton kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from glmserve.model_config import RopeConfig
from glmserve.ops.adapters.slots import LoraShape, LoraSlots, RowPlan
from glmserve.ops.adapters.triton import (
    TritonLora,
    TritonRows,
    fill_static,
    plan_rows,
    static_specs,
)
from glmserve.ops.attention.backend import AttentionBackend, Cache, Plan
from glmserve.ops.attention.paged_cache import PagedCache, PagedStepPlan
from glmserve.ops.base import Ops
from glmserve.ops.batch import Int64Array
from glmserve.ops.few_rows import FewRows
from glmserve.ops.linear.float8 import Float8Weight
from glmserve.ops.linear.float8_gpu import Float8Codes, Float8Products
from glmserve.ops.linear.packed import PackedWeight
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.static import LinearWeight
from glmserve.ops.linear.triton import DEQUANTIZE_FROM, PackedCodes, QuantizedKernels
from glmserve.ops.packed_arrays import ArraySpec, HostArrays
from glmserve_kernels.rms_norm.kernel import rms_norm
from glmserve_kernels.rope_cache.kernel import rope_cache
from glmserve_kernels.silu_and_mul.kernel import silu_and_mul
from glmserve_kernels.tiles import load_tiles


class ElementwiseTritonOps(Ops[Cache, Plan]):
    """Norms, activations, quantised products and adapters by Triton, with any attention backend.

    Args:
        chip: selects the tile sizes, see load_tiles.
    """

    dequantizes_from = DEQUANTIZE_FROM

    def __init__(self, attention: AttentionBackend[Cache, Plan], chip: str) -> None:
        super().__init__(attention)
        self._quantized = QuantizedKernels(chip)
        self._float8 = Float8Products(chip)
        self._norm_tiles = load_tiles("rms_norm", chip)
        self._silu_tiles = load_tiles("silu_and_mul", chip)
        self._lora_tiles = load_tiles("add_lora", chip)

    def lora_slots(self, shape: LoraShape) -> LoraSlots:
        return TritonLora(shape, self._lora_tiles)

    def plan_adapters(self, slots: Int64Array) -> RowPlan:
        return plan_rows(slots, self.attention.uploads)

    def static_adapter_specs(self, rows: int, adapters: int) -> dict[str, ArraySpec]:
        """See StaticAdapters."""
        return static_specs(rows, adapters)

    def fill_static_adapters(self, slots: Int64Array, host: HostArrays) -> None:
        """See StaticAdapters."""
        fill_static(slots, host)

    def static_adapter_plan(self, arrays: Mapping[str, Tensor]) -> RowPlan:
        """See StaticAdapters."""
        return TritonRows(arrays["order"], arrays["tiles"])

    def pack_linear(self, weight: LinearWeight) -> PackedWeight:
        if isinstance(weight, QuantizedWeight):
            return self._quantized.pack(weight) or weight
        if isinstance(weight, Float8Weight):
            return self._float8.pack(weight) or weight
        return super().pack_linear(weight)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        if isinstance(weight, PackedCodes):
            return self._quantized.linear(x, weight, bias)
        if isinstance(weight, Float8Codes):
            return self._float8.linear(x, weight, bias)
        return super().linear(x, weight, bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x)
        rms_norm(x=x, residual=None, weight=weight, out=out, eps=eps, tiles=self._norm_tiles)
        return out

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        # x is overwritten: a program has read its row before it writes.
        rms_norm(x=x, residual=residual, weight=weight, out=x, eps=eps, tiles=self._norm_tiles)
        return x

    def silu_and_mul(self, x: Tensor) -> Tensor:
        out = torch.empty((len(x), x.shape[1] // 2), dtype=x.dtype, device=x.device)
        silu_and_mul(x=x, out=out, tiles=self._silu_tiles)
        return out


PagedPlanT = TypeVar("PagedPlanT", bound=PagedStepPlan)


class TritonOps(ElementwiseTritonOps[PagedCache, PagedPlanT]):
    """All operations but plain matrix products by Triton; rotation and cache write are one
    kernel.

    Args:
        chip: selects the tile sizes, see load_tiles.
        few_rows: for steps of few rows; None: they are as the others.
    """

    def __init__(
        self,
        attention: AttentionBackend[PagedCache, PagedPlanT],
        chip: str,
        few_rows: FewRows[PagedCache, PagedPlanT] | None = None,
    ) -> None:
        super().__init__(attention, chip)
        self.few_rows = few_rows
        self._rope_tiles = load_tiles("rope_cache", chip)

    def rope_table(self, rope: RopeConfig, length: int, device: torch.device) -> Tensor:
        """Cosines and sines: float32 [length, R/2, 2]."""
        return torch.view_as_real(super().rope_table(rope, length, device)).contiguous()

    def rope_rows(self, table: Tensor, positions: Tensor) -> Tensor:
        return table  # the kernel reads the rows of its positions

    def self_attention(
        self, qkv: Tensor, rope_rows: Tensor, cache: PagedCache, plan: PagedPlanT
    ) -> Tensor:
        rope_cache(
            qkv=qkv,
            cos_sin=rope_rows,
            positions=plan.positions,
            slots=plan.slots,
            num_heads=qkv.shape[1] - 2 * self.attention.num_kv_heads,
            tiles=self._rope_tiles,
            **cache._asdict(),
        )
        return self.attention.run(qkv, cache, plan)
