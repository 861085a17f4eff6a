"""Operations and attention of `glmserve_cpu_kernels`: what a CPU uses where they are installed.

A row's numbers do not depend on what else is in the step, so this is also the deterministic mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from glmserve.config import KvCacheDType
from glmserve.contract.step import SamplingInput
from glmserve.errors import OptionError
from glmserve.ops.attention import AttentionBackend, LayerCache
from glmserve.ops.base import PackedWeight
from glmserve.ops.batch import Batch
from glmserve.ops.cpu import CpuOps
from glmserve.ops.gumbel import Float32Array
from glmserve.ops.quantized import QuantizedWeight
from glmserve_cpu_kernels import attention, elementwise, sampling
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.linear import (
    ActivationBits,
    PackedLinear,
    activation_group,
    pack_codes,
    pack_floats,
)

ACTIVATION_DTYPES = (torch.float32, torch.bfloat16)

_EXACT_BITS: dict[torch.dtype, ActivationBits] = {torch.bfloat16: 15, torch.float32: 22}
"""As good as the dtype's own precision."""


class NativeCpuOps(CpuOps):
    """CpuOps by our own kernels. Activations are float32 or bfloat16.

    Args:
        has_tiles: the CPU has AMX, which our kernels do not use and oneDNN does: it multiplies with
            plain weights in bfloat16, and in W8A8.
    """

    def __init__(
        self,
        attention: AttentionBackend,
        dtype: torch.dtype,
        library: Library,
        *,
        has_tiles: bool = False,
    ) -> None:
        super().__init__(attention, dtype)
        self.library = library
        self._has_tiles = has_tiles

    @property
    def keeps_codes(self) -> bool:
        return True

    def pack_linear(self, weight: Tensor | QuantizedWeight) -> PackedWeight:
        if self._is_for_onednn(weight):
            return super().pack_linear(weight)
        if isinstance(weight, QuantizedWeight):
            return self._pack_codes(weight)
        return pack_floats(self.library, weight)

    def _is_for_onednn(self, weight: Tensor | QuantizedWeight) -> bool:
        if self._dtype != torch.bfloat16:
            return False
        if isinstance(weight, QuantizedWeight):
            return self._has_tiles and weight.bits == weight.activation_bits == 8
        return self._has_tiles or weight.shape[1] % 2 == 1

    def _pack_codes(self, weight: QuantizedWeight) -> PackedWeight:
        num_groups = weight.scales.shape[1]
        columns = num_groups * weight.group_size
        if activation_group(columns, num_groups, weight.bits) is None:
            if weight.activation_bits:
                raise OptionError(
                    f"activations cannot be rounded for weights of {weight.bits} bits with a scale "
                    f"for every {weight.group_size} columns; leave --quantization out"
                )
            return self.pack_linear(weight.dequantized(self._dtype))
        bits = weight.activation_bits or _EXACT_BITS[self._dtype]
        return pack_codes(self.library, weight.codes, weight.scales, weight.bits, bits)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        if isinstance(weight, PackedLinear):
            return weight(x, bias)
        return super().linear(x, weight, bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return elementwise.rms_norm(self.library, None, x.contiguous(), weight, eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        return elementwise.rms_norm(self.library, x, residual, weight, eps)

    def silu_and_mul(self, x: Tensor) -> Tensor:
        return elementwise.silu_and_mul(self.library, x)

    def gelu(self, x: Tensor) -> Tensor:
        return elementwise.gelu(self.library, x)

    def rope(self, heads: Tensor, rows: Tensor) -> None:
        elementwise.rope(self.library, heads, rows)

    def draw(
        self, logits: Float32Array, rows: Sequence[int], inputs: Sequence[SamplingInput]
    ) -> list[int]:
        how = [(s.noise_key, s.top_p, s.temperature, s.min_p, s.top_k) for s in inputs]
        return sampling.draw(self.library, logits, rows, np.array(how, dtype=sampling.DRAW))


class NativeCpuAttention:
    """An AttentionBackend.

    Args:
        block_size: a multiple of attention.BLOCK.
        dtype: of activations, float32 or bfloat16.
        kv_cache_dtype: auto or int8.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        num_kv_heads: int,
        block_size: int,
        dtype: torch.dtype,
        kv_cache_dtype: KvCacheDType,
        library: Library,
    ) -> None:
        self.num_kv_heads = num_kv_heads
        self._block_size = block_size
        self._dtype = dtype
        self._is_int8 = kv_cache_dtype == "int8"
        self._library = library

    def token_bytes(self, head_dim: int) -> int:
        return attention.token_bytes(
            self.num_kv_heads, head_dim, self._dtype, is_int8=self._is_int8
        )

    def allocate(self, num_layers: int, num_blocks: int, head_dim: int) -> list[LayerCache]:
        blocks = num_blocks * self._block_size // attention.BLOCK
        return [
            attention.KvCache(
                self._library,
                *(blocks, self.num_kv_heads, head_dim, self._dtype),
                is_int8=self._is_int8,
            )
            for _ in range(num_layers)
        ]

    def plan(self, batch: Batch, cache: LayerCache) -> attention.Step:
        """Raises IndexError for a block that is not there: the kernels would write beyond."""
        known = len(cast(attention.KvCache, cache).numbers) * attention.BLOCK // self._block_size
        tables = batch.block_tables
        if tables.size and not (tables.min() >= 0 and tables.max() < known):
            raise IndexError(f"blocks {tables.min()} to {tables.max()} of {known}")
        return attention.Step(
            slots=batch.slot_mapping,
            last_visible=batch.last_visible,
            query_start=batch.query_start,
            contexts=batch.context_lens,
            block_tables=batch.block_tables,
            page=self._block_size,
        )

    def write(self, key_values: Tensor, cache: LayerCache, plan: Any) -> None:
        attention.write(self._library, cast(attention.KvCache, cache), plan, key_values)

    def run(self, qkv: Tensor, cache: LayerCache, plan: Any) -> Tensor:
        return attention.attend(
            self._library, cast(attention.KvCache, cache), plan, qkv, self.num_kv_heads
        )
