"""Products with quantised weights by the vendor's calls, for activations in float16 or bfloat16."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from glmserve.ops.ascend.chip import Chip
from glmserve.ops.linear.quantized import QuantizedWeight

_GROUP_MULTIPLE = 32
"""Of columns that share a scale, see npu_weight_quant_batchmatmul."""
_INT4_ROWS = 8
"""Outputs whose codes of 4 bits lie in one int32."""
_MOST_COLUMNS = 65535
"""The largest size of both dimensions of a weight in these calls."""


class AscendLinear(Protocol):
    """A packed quantised weight [N, K]."""

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x @ weight^T + bias: [T, K] to [T, N]."""
        ...


def pack_quantized(weight: QuantizedWeight, dtype: torch.dtype, chip: Chip) -> AscendLinear | None:
    """Pack a weight for one of the calls; None: there is none for it on this chip.

    Args:
        dtype: of activations.
    """
    if dtype not in chip.dtypes or max(weight.codes.shape) > _MOST_COLUMNS:
        return None
    if weight.activation_bits:
        return PerTokenLinear(weight) if weight.bits == 8 else None
    if weight.bits == 8:
        return WeightOnlyLinear(weight.codes.t(), _scales(weight, dtype), 0)
    if not chip.has_fused_calls or len(weight.codes) % _INT4_ROWS:
        return None
    codes = weight.unpacked().t().to(torch.int32).contiguous()
    group = weight.group_size if weight.scales.shape[1] > 1 else 0
    if group % _GROUP_MULTIPLE:
        return None
    packed = torch.ops.npu.npu_convert_weight_to_int4pack(codes)
    return WeightOnlyLinear(packed, _scales(weight, dtype), group)


def _scales(weight: QuantizedWeight, dtype: torch.dtype) -> Tensor:
    """[N] of whole rows, or [G, N] of groups."""
    scales = weight.scales.to(dtype)
    return scales.flatten() if scales.shape[1] == 1 else scales.t().contiguous()


class WeightOnlyLinear:
    """W8A16 and W4A16: npu_weight_quant_batchmatmul.

    Args:
        codes: int8 [K, N], a transposed view; or int32 [K, N/8] of 4 bits.
        scales: [N], or [G, N], of the activations' dtype.
        group_size: columns that share a scale; 0: all.
    """

    def __init__(self, codes: Tensor, scales: Tensor, group_size: int) -> None:
        self._codes = codes
        self._scales = scales
        self._group_size = group_size

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if bias is not None and x.dtype == torch.bfloat16:
            bias = bias.float()  # the call wants it so
        product: Tensor = torch.ops.npu.npu_weight_quant_batchmatmul(
            x, self._codes, self._scales, bias=bias, antiquant_group_size=self._group_size
        )
        return product


class PerTokenLinear:
    """W8A8: npu_dynamic_quant rounds each row of activations with a scale of its own, and
    npu_quant_matmul multiplies the codes and scales the sums."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self._codes = weight.codes.t()
        self._scales = weight.scales.flatten().float()

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        codes, scales = torch.ops.npu.npu_dynamic_quant(x)
        product: Tensor = torch.ops.npu.npu_quant_matmul(
            codes,
            self._codes,
            self._scales,
            pertoken_scale=scales,
            bias=None if bias is None else bias.float(),
            output_dtype=x.dtype,
        )
        return product
