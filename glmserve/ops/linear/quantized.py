"""Linear weights as small integers: number = code * scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from glmserve.config import WeightBits

LARGEST_CODE = {8: 127, 4: 7}

_NUMBERS_AT_ONCE = 2**18
"""That are rounded together: all steps find them in the cache, ten times as fast as in memory."""


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A linear weight [N, K], N outputs, in the layout of the official quantised checkpoints."""

    codes: Tensor
    """int8: [N, K] of 8 bits, or [N, K/2]: two of 4 bits, the even column in the high half."""
    scales: Tensor
    """[N, G]: one for each row and each of G equal groups of columns."""
    bits: WeightBits
    activation_bits: Literal[8] | None = None
    """8: activations are to be rounded as well, row by row."""

    @property
    def group_size(self) -> int:
        """Columns that share a scale."""
        return self.codes.shape[1] * 8 // self.bits // self.scales.shape[1]

    def rows(self, first: int, last: int) -> QuantizedWeight:
        """Outputs first..last-1 only."""
        return replace(self, codes=self.codes[first:last], scales=self.scales[first:last])

    def unpacked(self) -> Tensor:
        """int8 [N, K], one code each."""
        if self.bits == 8:
            return self.codes
        # Arithmetic shifts carry the sign of either half along.
        halves = torch.stack((self.codes >> 4, (self.codes << 4) >> 4), dim=-1)
        return halves.flatten(1)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """[N, K]: products in float32, rounded once."""
        codes = self.unpacked()
        groups = codes.view(len(codes), self.scales.shape[1], -1)
        return (groups * self.scales.float()[..., None]).flatten(1).to(dtype)


def quantize(weight: Tensor, bits: WeightBits, group_size: int | None = None) -> QuantizedWeight:
    """Round a weight [N, K] to symmetric codes.

    Args:
        weight: floating point.
        bits: 8 or 4.
        group_size: columns that share a scale; divides K. None: whole rows, as the official
            checkpoints do.
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
    """Codes int8 [N, K] as a QuantizedWeight holds them."""
    return codes if bits == 8 else (codes[:, 0::2] << 4) | (codes[:, 1::2] & 15)
