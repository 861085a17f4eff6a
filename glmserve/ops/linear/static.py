"""W8A8 as ModelSlim writes it: activations have one scale and one offset, found by calibration.

    codes of x = round((x + shift) / input_scale + input_offset), within -128..127
    y = (codes of x @ codes^T + quant_bias) * deq_scale

`shift` is the bias of a smoothed norm. The linear module's own bias is within quant_bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.ops.linear.float8 import Float8Weight
from glmserve.ops.linear.quantized import QuantizedWeight


@dataclass(frozen=True, slots=True)
class StaticWeight:
    """A linear weight [N, K] and what rounds its input."""

    codes: Tensor
    """int8 [N, K]"""
    deq_scale: Tensor
    """float32 [N]: scale of the input times that of the row."""
    quant_bias: Tensor
    """int32 [N]"""
    input_scale: float
    input_offset: float
    """A whole number."""
    shift: Tensor | None
    """[K]; None: 0."""


LinearWeight = Tensor | QuantizedWeight | StaticWeight | Float8Weight
"""What `Ops.pack_linear` takes."""


class InputRounding:
    """Rounds activations, and returns numbers that are exact in every dtype.

    They are whole numbers from -255 to 255 times `step`, a power of two near the input's scale.
    """

    def __init__(self, weight: StaticWeight) -> None:
        self.step = 2.0 ** round(math.log2(weight.input_scale))
        self._scale = weight.input_scale
        self._offset = weight.input_offset
        self._shift = None if weight.shift is None else weight.shift.float()

    def __call__(self, x: Tensor) -> Tensor:
        """[T, K], in the dtype of x."""
        wide = x.float() if self._shift is None else x.float() + self._shift
        codes = (wide / self._scale + self._offset).round_().clamp_(-128, 127)
        return codes.sub_(self._offset).mul_(self.step).to(x.dtype)


class RoundedLinear(NamedTuple):
    """A StaticWeight as a product with a weight that is quantised alone, on rounded inputs."""

    rounding: InputRounding
    weight: object
    """The PackedWeight of the codes."""
    bias: Tensor
    """float32 [N]"""


def as_rounded_linear(
    weight: StaticWeight, pack: Callable[[QuantizedWeight], object]
) -> RoundedLinear:
    """Split a weight into the rounding and the product.

    Args:
        pack: packs the codes, with a scale for each row.
    """
    rounding = InputRounding(weight)
    scales = weight.deq_scale / rounding.step
    sums = weight.codes.sum(dim=1, dtype=torch.float32)
    bias = (weight.quant_bias + weight.input_offset * sums) * weight.deq_scale
    return RoundedLinear(rounding, pack(QuantizedWeight(weight.codes, scales[:, None], 8)), bias)
