"""Products with quantised weights, and the rounding of activations."""

from __future__ import annotations

import torch
from torch import Tensor

from support.ascend_simulator.arguments import FLOATS, require, require_whole

_SCALAR_TYPES = {
    1: torch.int8,
    5: torch.float16,
    6: torch.float32,
    12: torch.qint8,
    15: torch.bfloat16,
}
"""By their numbers in c10::ScalarType, as schemas have dtypes."""


def npu_weight_quant_batchmatmul(
    x: Tensor,
    weight: Tensor,
    antiquant_scale: Tensor,
    antiquant_offset: Tensor | None = None,
    quant_scale: Tensor | None = None,
    quant_offset: Tensor | None = None,
    bias: Tensor | None = None,
    antiquant_group_size: int = 0,
    inner_precise: int = 0,
    weight_dtype: int | None = None,
) -> Tensor:
    require(x.dim() == weight.dim() == 2 and x.numel(), "x and weight have two dims, and numbers")
    require(antiquant_scale.dtype == x.dtype, "antiquant_scale has another dtype than x")
    require(quant_scale is quant_offset is weight_dtype is None, "not simulated")
    codes = _unpack_int4(weight) if weight.dtype == torch.int32 else weight
    columns, outputs = codes.shape
    require(codes.dtype == torch.int8 and x.shape[1] == columns, "shapes of x and weight")
    if antiquant_group_size:
        group = antiquant_group_size
        require(group % 32 == 0 and 32 <= group < columns, "antiquant_group_size")
        require(antiquant_scale.shape == (-(-columns // group), outputs), "antiquant_scale")
        scales = antiquant_scale.float().repeat_interleave(group, dim=0)[:columns]
    else:
        require(antiquant_scale.shape == (outputs,), "antiquant_scale")
        scales = antiquant_scale.float()
    shifted = codes.float() + (0 if antiquant_offset is None else antiquant_offset.float())
    product = x.float() @ (shifted * scales)
    if bias is not None:
        wanted = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
        require(bias.dtype == wanted and bias.is_contiguous(), "bias")
        product += bias.float()
    return product.to(x.dtype)


def npu_convert_weight_to_int4pack(weight: Tensor, inner_k_tiles: int = 0) -> Tensor:
    """Eight codes [K, N] in one int32 [K, N/8]; the first is in the lowest bits."""
    require(weight.dtype == torch.int32 and weight.dim() == 2, "weight is int32 [K, N]")
    require(weight.shape[1] % 8 == 0 and inner_k_tiles == 0, "N is a multiple of 8")
    require_whole(weight=weight)
    nibbles = (weight & 15).view(len(weight), -1, 8).to(torch.int64)
    packed = (nibbles << (4 * torch.arange(8))).sum(-1)
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def _unpack_int4(packed: Tensor) -> Tensor:
    nibbles = (packed.unsqueeze(-1) >> (4 * torch.arange(8, dtype=torch.int32))) & 15
    return (nibbles - 16 * (nibbles > 7)).flatten(1).to(torch.int8)


def npu_dynamic_quant(
    input: Tensor,
    *,
    smooth_scales: Tensor | None = None,
    group_index: Tensor | None = None,
    dst_type: int | None = None,
    quant_mode: str = "pertoken",
    dst_type_max: float = 0.0,
) -> tuple[Tensor, Tensor]:
    require(input.dtype in FLOATS and input.dim() > 1, "its dtype, or fewer than two dims")
    require(smooth_scales is group_index is dst_type is None, "not simulated")
    require(quant_mode == "pertoken" and not dst_type_max, "not simulated")
    wide = input.float()
    scales = wide.abs().amax(-1) / 127
    divisors = scales.clamp(min=torch.finfo(torch.float32).tiny)
    return (wide / divisors.unsqueeze(-1)).round().to(torch.int8), scales


def npu_quantize(
    input: Tensor,
    scales: Tensor,
    zero_points: Tensor | None,
    dtype: int,
    axis: int = 1,
    div_mode: bool = True,
) -> Tensor:
    """div_mode False: input * scales + zero_points, rounded to the nearest even number."""
    require(input.dtype in FLOATS and scales.dtype == input.dtype, "dtypes of input and scales")
    require(_SCALAR_TYPES.get(dtype) == torch.qint8, "dtype is torch.qint8")
    require(axis in (-1, input.dim() - 1) and not div_mode, "not simulated")
    require(scales.shape in ((1,), input.shape[-1:]), "scales")
    wide = input.float() * scales.float()
    if zero_points is not None:
        require(zero_points.shape == scales.shape, "zero_points")
        require(zero_points.dtype == scales.dtype, "zero_points has another dtype than scales")
        wide = wide + zero_points.float()
    return wide.round().clamp(-128, 127).to(torch.int8)


def npu_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    *,
    offset: Tensor | None = None,
    pertoken_scale: Tensor | None = None,
    bias: Tensor | None = None,
    output_dtype: int | None = None,
    x1_dtype: int | None = None,
    x2_dtype: int | None = None,
    pertoken_scale_dtype: int | None = None,
    scale_dtype: int | None = None,
    group_sizes: list[int] | None = None,
    y_scale: Tensor | None = None,
) -> Tensor:
    require(x1.dtype == x2.dtype == torch.int8 and x1.numel(), "x1 and x2 are int8")
    require(x1.shape[1] == x2.shape[0] and max(x2.shape) <= 65535, "shapes of x1 and x2")
    require(offset is group_sizes is y_scale is None, "not simulated")
    require(x1_dtype is x2_dtype is pertoken_scale_dtype is scale_dtype is None, "not simulated")
    require(scale.shape in ((1,), x2.shape[1:]), "scale")
    require(output_dtype is not None, "not simulated")
    out = _SCALAR_TYPES[output_dtype or 0]
    if pertoken_scale is None and out == torch.float16:
        require(scale.dtype == torch.int64, "scale is what npu_trans_quant_param gives")
        factors = scale.to(torch.int32).view(torch.float32)
    else:
        require(scale.dtype == torch.float32, "scale is float32")
        factors = scale
    sums = x1.double() @ x2.double()  # exact
    if bias is not None and bias.dtype == torch.int32:
        sums, bias = sums + bias, None
    product = sums * factors.double()
    if pertoken_scale is not None:
        require(pertoken_scale.dtype == torch.float32, "pertoken_scale is float32")
        require(pertoken_scale.shape == x1.shape[:1], "pertoken_scale")
        product *= pertoken_scale.double().unsqueeze(-1)
    if bias is not None:
        require(bias.dtype in (torch.float32, torch.bfloat16), "bias")
        require(bias.shape == x2.shape[1:], "bias")
        product += bias.double()
    return product.to(out)
