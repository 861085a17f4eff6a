"""Matrix products in float8 on a GPU: our kernel rounds the rows, torch's library multiplies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.ops.linear.float8 import RESULT, Float8Weight
from glmserve_kernels.quantize_rows.kernel import quantize_rows
from glmserve_kernels.tiles import load_tiles

_MULTIPLE = 16
"""N and K are multiples of it: the library loads so many numbers at a time."""


class Float8Codes(NamedTuple):
    """A Float8Weight [N, K] in the layout of the library."""

    codes: Tensor
    """float8_e4m3fn [N, K]"""
    scales: Tensor
    """float32 [1, N]"""


class Float8Products:
    """Multiplies with Float8Codes.

    Args:
        chip: selects the tile sizes, see load_tiles.
    """

    def __init__(self, chip: str) -> None:
        self._tiles = load_tiles("quantize_rows", chip)

    def pack(self, weight: Float8Weight) -> Float8Codes | None:
        """The weight in the layout of the library; None: it does not support its shape."""
        if any(size % _MULTIPLE for size in weight.codes.shape):
            return None
        return Float8Codes(weight.codes.contiguous(), weight.scales[None])

    def linear(self, x: Tensor, weight: Float8Codes, bias: Tensor | None) -> Tensor:
        """x @ weight^T + bias: [T, K] to [T, N], rounded to bfloat16 and then to the dtype of x."""
        codes = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
        scales = torch.empty(len(x), device=x.device)
        quantize_rows(x=x, codes=codes, scales=scales, tiles=self._tiles)
        y = torch._scaled_mm(
            codes,
            weight.codes.t(),
            scale_a=scales[:, None],
            scale_b=weight.scales,
            out_dtype=RESULT,
        ).to(x.dtype)
        return y if bias is None else y.add_(bias)
