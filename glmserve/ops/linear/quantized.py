"""Quantised linear weights: number = code * scale, with codes of 8 or 4 bits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from glmserve.config import WeightBits

LARGEST_CODE = {8: 127, 4: 7}

_NUMBERS_AT_ONCE = 2**18
"""Numbers that are rounded together. They stay in the CPU's cache for all steps of the rounding,
which is ten times as fast as a whole weight at once."""


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A linear weight [N, K], N outputs, in the layout of the official quantised checkpoints."""

    codes: Tensor
    """int8: [N, K] codes of 8 bits; or [N, K/2] pairs of 4 bits, the even column in the high
    half."""
    scales: Tensor
    """[N, G]: one for each row and each of G groups of K/G columns."""
    bits: WeightBits
    activation_bits: Literal[8] | None = None
    """8: activations are rounded to 8 bits as well, row by row; None: they are not."""

    @property
    def group_size(self) -> int:
        """Columns that share a scale."""
        return self.codes.shape[1] * 8 // self.bits // self.scales.shape[1]

    def rows(self, first: int, last: int) -> QuantizedWeight:
        """The outputs first..last-1."""
        return replace(self, codes=self.codes[first:last], scales=self.scales[first:last])

    def unpacked(self) -> Tensor:
        """int8 [N, K], one code each."""
        if self.bits == 8:
            return self.codes
        # Arithmetic shifts extend the sign of each half.
        halves = torch.stack((self.codes >> 4, (self.codes << 4) >> 4), dim=-1)
        return halves.flatten(1)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The weight [N, K], computed in float32 and rounded once to `dtype`."""
        codes = self.unpacked()
        groups = codes.view(len(codes), self.scales.shape[1], -1)
        return (groups * self.scales.float()[..., None]).flatten(1).to(dtype)


def quantize(weight: Tensor, bits: WeightBits, group_size: int | None = None) -> QuantizedWeight:
    """Round a weight to the nearest symmetric codes.

    Args:
        weight: [N, K], floating point.
        bits: of a code.
        group_size: columns that share a scale; divides K. None: all columns, as in official
            checkpoints.
    """
    rows, columns = weight.shape
    num_groups = columns // (group_size or columns)
    codes = torch.empty((rows, columns), dtype=torch.int8, device=weight.device)
    scales = torch.empty((rows, num_groups), device=weight.device)
    at_once = max(1, _NUMBERS_AT_ONCE // columns)
    for first in range(0, rows, at_once):
        some = slice(first, first + at_once)
        groups = weight[some].float().view(-1, num_groups, columns // num_groups)
        scales[some] = groups.abs().amax(-1).div_(LARGEST_CODE[bits])
        divisors = scales[some].clamp(min=torch.finfo(torch.float32).tiny)
        codes[some] = (groups / divisors[..., None]).round_().view(-1, columns)
    return QuantizedWeight(pack_codes(codes, bits), scales, bits)


def pack_codes(codes: Tensor, bits: WeightBits) -> Tensor:
    """Codes int8 [N, K] in the layout of QuantizedWeight."""
    return codes if bits == 8 else (codes[:, 0::2] << 4) | (codes[:, 1::2] & 15)
