"""Matrix products in float8_e4m3fn: weights and activations are rounded, each row by its scale.

    scale of a row = largest absolute number / 448
    y = (codes of x @ codes of w^T) * scale of x's row * scale of w's row, summed in float32

448 is the largest number of the format (Micikevicius et al., FP8 Formats for Deep Learning, 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 448.0
RESULT = torch.bfloat16
"""What the library of a GPU writes: with a scale for each row it writes nothing else."""

_NUMBERS_AT_ONCE = 2**20
"""Numbers of a weight that are rounded together."""


@dataclass(frozen=True, slots=True)
class Float8Weight:
    """A linear weight [N, K], N outputs: number = code * scale of its row."""

    codes: Tensor
    """float8_e4m3fn [N, K]"""
    scales: Tensor
    """float32 [N]"""

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The weight [N, K], computed in float32 and rounded once to `dtype`."""
        return (self.codes.float() * self.scales[:, None]).to(dtype)


class RoundedRows(NamedTuple):
    """A Float8Weight as a product with other numbers, on rounded inputs: for devices without
    products in float8."""

    weight: object
    """The PackedWeight of the dequantised numbers."""


def product_bytes(rows: int, shape: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of what a product takes on a GPU beside its rows and its result: codes and scales of
    the rows, and the library's result where another dtype is wanted.

    Args:
        shape: of the weight: [N, K].
        dtype: of the rows and of the result.
    """
    outputs, inputs = shape
    codes_and_scale = inputs * torch.float8_e4m3fn.itemsize + torch.float32.itemsize
    unconverted = 0 if dtype == RESULT else outputs * RESULT.itemsize
    return rows * (codes_and_scale + unconverted)


def round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of x [T, K] to the nearest codes.

    Returns:
        float8_e4m3fn [T, K], and the scales float32 [T]. A row of zeros has scale 0.
    """
    wide = x.float()
    scales = wide.abs().amax(-1) / LARGEST
    divisors = scales.clamp(min=torch.finfo(torch.float32).tiny)
    return (wide / divisors[:, None]).to(torch.float8_e4m3fn), scales


def rounded(x: Tensor) -> Tensor:
    """x [T, K] with the numbers that its codes stand for, in the dtype of x."""
    codes, scales = round_rows(x)
    return (codes.float() * scales[:, None]).to(x.dtype)


def quantize_float8(weight: Tensor) -> Float8Weight:
    """Round a weight.

    Args:
        weight: [N, K], floating point.
    """
    rows, columns = weight.shape
    codes = torch.empty((rows, columns), dtype=torch.float8_e4m3fn, device=weight.device)
    scales = torch.empty(rows, device=weight.device)
    at_once = max(1, _NUMBERS_AT_ONCE // columns)
    for first in range(0, rows, at_once):
        some = slice(first, first + at_once)
        codes[some], scales[some] = round_rows(weight[some])
    return Float8Weight(codes, scales)
