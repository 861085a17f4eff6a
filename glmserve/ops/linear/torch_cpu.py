"""Matrix products with quantised weights by torch's CPU kernels, for activations in bfloat16.

Measured on a Zen 4 with two threads, weight 12288x4096, milliseconds at 1 / 16 / 256 rows: bfloat16
3.5 / 8.9 / 128, W8A8 2.4 / 7.9 / 64, int8 weights alone 2.0 / 25 / 196. torch's kernels for
quantised weights alone dequantise each number once per row of activations.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.ops.linear.quantized import QuantizedWeight

_ROWS_AT_ONCE = 512
"""Rows of a weight that are dequantised together; they stay in the CPU's cache."""

_ZERO_POINT = 128
"""Activations are passed as unsigned bytes: oneDNN has only slow reference code for signed ones."""


class QuantizedLinear(Protocol):
    """A packed quantised weight [N, K]."""

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x @ weight^T + bias: x bfloat16 [T, K] to [T, N]."""
        ...


def pack_quantized(weight: QuantizedWeight) -> QuantizedLinear:
    """Pack a weight for the fastest kernel that supports it."""
    if weight.activation_bits == 8:
        return W8A8Linear(weight)
    if weight.bits == 8:
        return Int8Linear(weight)
    group = Int4Linear.group_for(weight)
    return DequantizingLinear(weight) if group is None else Int4Linear(weight, group)


class W8A8Linear:
    """Activations are rounded to int8 as well, with one scale per row; sums are exact integers.

    So the result for a row does not depend on the other rows.
    """

    def __init__(self, weight: QuantizedWeight) -> None:
        self._codes = torch.ops.onednn.qlinear_prepack(weight.codes, None)
        self._scales = weight.scales[:, 0].float().contiguous()
        self._zeros = torch.zeros(len(self._scales), dtype=torch.int32)

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        wide = x.float()
        scales = wide.abs().amax(-1, keepdim=True).div_(127)
        codes = (wide / scales.clamp(min=torch.finfo(torch.float32).tiny)).round_()
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes.add_(_ZERO_POINT).to(torch.uint8),
            *(1.0, _ZERO_POINT),
            *(self._codes, self._scales, self._zeros),
            *(None, 1.0, 0, torch.float32, "none", [], ""),
        )
        y.mul_(scales)
        return (y if bias is None else y.add_(bias)).to(x.dtype)


class Int8Linear:
    """Weights of 8 bits, one scale per row."""

    _MOST_ROWS = 64
    """For more rows, torch's kernel is slower than dequantising and oneDNN's product."""
    _COLUMN_MULTIPLE = 16
    """Of torch's kernel, which reads beyond the end of other rows."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self._codes = weight.codes.contiguous()
        self._scales = weight.scales[:, 0].to(torch.bfloat16).contiguous()
        fits = self._codes.shape[1] % self._COLUMN_MULTIPLE == 0
        self._most_rows = self._MOST_ROWS if fits else 0

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if len(x) <= self._most_rows:
            y: Tensor = torch._weight_int8pack_mm(x, self._codes, self._scales)
        else:
            starts = range(0, len(self._codes), _ROWS_AT_ONCE)
            blocks = [self._codes[start : start + _ROWS_AT_ONCE] for start in starts]
            y = torch.cat([F.linear(x, block.to(x.dtype)) for block in blocks], dim=1)
            y.mul_(self._scales)
        return y if bias is None else y.add_(bias)


class Int4Linear:
    """Weights of 4 bits, one scale per row and group of columns, by torch's kernel for any rows.

    For more than some 200 rows dequantising would be up to 1.5x as fast, but it needs a second copy
    of the codes in another order, and 4 bits are chosen to save memory.
    """

    _GROUPS = (256, 128, 64, 32)
    _ROW_MULTIPLE = 16
    """Limits of torch's kernel."""

    def __init__(self, weight: QuantizedWeight, group: int) -> None:
        repeats = weight.group_size // group
        scales = weight.scales.repeat_interleave(repeats, dim=1).t()
        zeros = torch.zeros_like(scales)
        self._group = group
        self._scales = torch.stack((scales, zeros), dim=-1).to(torch.bfloat16).contiguous()
        codes = weight.unpacked().to(torch.int32) + 8
        self._codes = torch._convert_weight_to_int4pack_for_cpu(codes, 1)

    @classmethod
    def group_for(cls, weight: QuantizedWeight) -> int | None:
        """Columns per scale for the kernel; None: it does not support this weight."""
        fitting = [g for g in cls._GROUPS if weight.group_size % g == 0]
        return fitting[0] if fitting and len(weight.codes) % cls._ROW_MULTIPLE == 0 else None

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = torch._weight_int4pack_mm_for_cpu(x, self._codes, self._group, self._scales)
        return y if bias is None else y.add_(bias)


class DequantizingLinear:
    """Any quantised weight; each product dequantises it, some rows at a time."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self._weight = weight

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        parts = []
        for start in range(0, len(self._weight.codes), _ROWS_AT_ONCE):
            some = self._weight.rows(start, start + _ROWS_AT_ONCE)
            parts.append(F.linear(x, some.dequantized(x.dtype)))
        y = torch.cat(parts, dim=1)
        return y if bias is None else y.add_(bias)
