"""A matrix product with weights as they are: codes times scales."""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve_kernels.quantized_matmul.packing import unpack_int4


def dequantized(weight: Tensor, scales: Tensor) -> Tensor:
    """The numbers that codes (see kernel.quantized_matmul) stand for: float64 [N, K]."""
    codes = weight if weight.dtype == torch.int8 else unpack_int4(weight)
    groups = torch.unflatten(codes.double(), 1, (scales.shape[1], -1))
    numbers: Tensor = groups * scales.double()[..., None]
    return numbers.flatten(1)


def numbers_of(weight: Tensor, scales: Tensor | None) -> Tensor:
    """A weight in float64: of codes with scales, or of numbers."""
    return weight.double() if scales is None else dequantized(weight, scales)


def quantized_matmul(
    *,
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    bias: Tensor | None,
    out: Tensor,
    partial: Tensor | None,
    arrivals: Tensor | None,
) -> dict[str, Tensor]:
    """See kernel.quantized_matmul."""
    product = x.double() @ dequantized(weight, scales).T
    return {"out": product if bias is None else product + bias.double()}
