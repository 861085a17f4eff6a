"""Weights in every format of the CPU kernels, and the numbers that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glmserve.config import WeightBits
from glmserve.ops.linear.quantized import QuantizedWeight, pack_codes
from glmserve_cpu_kernels import linear
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.linear import ActivationBits, PackedLinear


@dataclass(frozen=True)
class Form:
    """A weight's format: `bits` are those of integers, None stands for floats."""

    dtype: torch.dtype
    bits: WeightBits | None = None
    activation_bits: ActivationBits = 22
    group: int | None = None
    """Columns that share a scale; None: whole rows."""

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name}-{self.bits}-{self.activation_bits}-{self.group}" if self.bits else name


DTYPES = (torch.float32, torch.bfloat16)
BITS: tuple[WeightBits, ...] = (8, 4)
ACTIVATION_BITS: tuple[ActivationBits, ...] = (8, 15, 22)
FORMS = [
    *map(Form, DTYPES),
    *(Form(dtype, bits, wide) for dtype in DTYPES for bits in BITS for wide in ACTIVATION_BITS),
    *(Form(torch.float32, 4, 22, group) for group in (32, 64, 128, 256)),
    *(Form(torch.bfloat16, 4, 15, group) for group in (32, 128)),
    Form(torch.bfloat16, 4, 8, 64),
    Form(torch.float32, 8, 22, 32),
]


@dataclass(frozen=True)
class Weight:
    """A weight, packed, and the numbers that it stands for."""

    form: Form
    multiply: PackedLinear
    numbers: Tensor
    """float64 [N, K]"""
    weight_groups: int


def make(library: Library, form: Form, outputs: int, inputs: int, seed: int = 0) -> Weight:
    generator = torch.Generator().manual_seed(seed)
    if form.bits is None:
        floats = torch.randn(outputs, inputs, generator=generator).to(form.dtype)
        return Weight(form, linear.pack_floats(library, floats), floats.double(), 1)
    largest = 2 ** (form.bits - 1)
    codes = torch.randint(-largest, largest, (outputs, inputs), generator=generator).to(torch.int8)
    groups = inputs // form.group if form.group else 1
    # Halves are kept as they are, whatever scales are stored in.
    scales = torch.rand(outputs, groups, generator=generator).half().float() + 0.5
    weight = QuantizedWeight(pack_codes(codes, form.bits), scales.half().float(), form.bits)
    packed = linear.pack_codes(
        library, weight.codes, weight.scales, form.bits, form.activation_bits
    )
    return Weight(form, packed, weight.dequantized(torch.float64), groups)


def rows_of(form: Form, rows: int, inputs: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, inputs, generator=generator).to(form.dtype)
