"""Operations by `glmserve_cpu_kernels`, where these were compiled.

The result for a row does not depend on the other rows of the step, so these are also the
operations of --deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glmserve.contract.step import SamplingInput
from glmserve.errors import OptionError
from glmserve.ops.adapters.native import NativeLora
from glmserve.ops.adapters.rows import group_rows
from glmserve.ops.adapters.slots import LoraShape, LoraSlots, RowPlan
from glmserve.ops.attention.backend import AttentionBackend, Cache, Plan
from glmserve.ops.base import PackedWeight
from glmserve.ops.batch import Int64Array
from glmserve.ops.cpu.torch_ops import TorchCpuOps
from glmserve.ops.linear.float8 import Float8Weight
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.static import LinearWeight, StaticWeight
from glmserve.ops.sampling.gumbel import Float32Array
from glmserve_cpu_kernels import elementwise, lora, sampling
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.linear import (
    ActivationBits,
    PackedLinear,
    activation_group,
    pack_codes,
    pack_floats,
)

ACTIVATION_DTYPES = (torch.float32, torch.bfloat16)

_ACTIVATION_BITS: dict[torch.dtype, ActivationBits] = {torch.bfloat16: 15, torch.float32: 22}
"""Bits of rounded activations: the rounding error is about that of the dtype."""


class NativeCpuOps(TorchCpuOps[Cache, Plan]):
    """Our own kernels, for activations in float32 or bfloat16."""

    def __init__(
        self, attention: AttentionBackend[Cache, Plan], dtype: torch.dtype, library: Library
    ) -> None:
        super().__init__(attention, dtype)
        self.library = library

    @property
    def keeps_codes(self) -> bool:
        return True

    def pack_linear(self, weight: LinearWeight) -> PackedWeight:
        if isinstance(weight, StaticWeight | Float8Weight):
            return super().pack_linear(weight)
        if isinstance(weight, QuantizedWeight):
            return self._pack_codes(weight)
        if self._dtype == torch.bfloat16 and weight.shape[1] % 2:
            return super().pack_linear(weight)  # our kernel reads inputs in pairs
        return pack_floats(self.library, weight)

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
        bits = weight.activation_bits or _ACTIVATION_BITS[self._dtype]
        return pack_codes(self.library, weight.codes, weight.scales, weight.bits, bits)

    def lora_slots(self, shape: LoraShape) -> LoraSlots:
        return NativeLora(self.library, shape)

    def plan_adapters(self, slots: Int64Array) -> RowPlan:
        return lora.Rows(*group_rows(slots))

    def logits(self, x: Tensor, weight: PackedWeight) -> Tensor:
        if isinstance(weight, PackedLinear):
            return weight.widened(x)
        return super().logits(x, weight)

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
        pairs = [(s.noise_key, s.sampling) for s in inputs]
        options = [(key, p.top_p, p.temperature, p.min_p, p.top_k) for key, p in pairs]
        return sampling.draw(self.library, logits, rows, np.array(options, dtype=sampling.DRAW))
