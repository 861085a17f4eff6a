"""Products with quantised weights by the vendor's calls, for activations in float16 or bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from glmserve.ops.ascend.chip import Chip
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.static import StaticWeight

_GROUP_MULTIPLE = 32
"""Of columns that share a scale, see npu_weight_quant_batchmatmul."""
_INT4_ROWS = 8
"""Outputs whose codes of 4 bits lie in one int32."""
_MOST_COLUMNS = 65535
"""The largest size of both dimensions of a weight in these calls."""
_ROWS_AT_ONCE = 2**15
"""Outputs of the parts of a weight that has more: an output layer."""


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
    rows = len(weight.codes)
    if rows > _MOST_COLUMNS:
        parts = [weight.rows(i, i + _ROWS_AT_ONCE) for i in range(0, rows, _ROWS_AT_ONCE)]
        found = [packed for part in parts if (packed := pack_quantized(part, dtype, chip))]
        return SplitLinear(found) if len(found) == len(parts) else None
    if dtype not in chip.dtypes or weight.codes.shape[1] * 8 // weight.bits > _MOST_COLUMNS:
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


def pack_static(weight: StaticWeight, dtype: torch.dtype, chip: Chip) -> AscendLinear | None:
    """Pack a weight with calibrated activations; None: there is no call for it on this chip."""
    if dtype not in chip.dtypes or max(weight.codes.shape) > _MOST_COLUMNS:
        return None
    return StaticLinear(weight, dtype)


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


class StaticLinear:
    """W8A8 with calibrated activations: npu_quantize rounds them with one scale and one offset, and
    npu_quant_matmul adds quant_bias to the sums and scales them."""

    def __init__(self, weight: StaticWeight, dtype: torch.dtype) -> None:
        ones = torch.ones(1, dtype=torch.float32, device=weight.codes.device)
        self._codes = weight.codes.t()
        self._quant_bias = weight.quant_bias
        self._factor = (ones / weight.input_scale).to(dtype)
        self._offset = (ones * weight.input_offset).to(dtype)
        self._shift = None if weight.shift is None else weight.shift.to(dtype)
        scales = weight.deq_scale
        # For float16 the call wants the bits of the scales in int64.
        self._scales = scales.view(torch.int32).long() if dtype == torch.float16 else scales

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self._shift is not None:
            x = x + self._shift
        codes = torch.ops.npu.npu_quantize(
            x, self._factor, self._offset, torch.qint8, axis=-1, div_mode=False
        )
        product: Tensor = torch.ops.npu.npu_quant_matmul(
            codes, self._codes, self._scales, bias=self._quant_bias, output_dtype=x.dtype
        )
        return product if bias is None else product + bias


class SplitLinear:
    """A weight in parts, because it has more outputs than a call takes."""

    def __init__(self, parts: Sequence[AscendLinear]) -> None:
        self._parts = parts

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        biases = [None] * len(self._parts) if bias is None else torch.split(bias, _ROWS_AT_ONCE)
        pairs = zip(self._parts, biases, strict=True)
        return torch.cat([part(x, own) for part, own in pairs], dim=-1)
