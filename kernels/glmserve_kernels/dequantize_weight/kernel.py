"""One program per tile of the weight."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.quantized_matmul.kernel import decode, word_columns
from glmserve_kernels.tiles import Tiles


@triton.jit
def _dequantize_weight(
    weight_ptr,
    scales_ptr,
    out_ptr,
    weight_stride,
    scales_stride,
    groups_stride,
    out_stride,
    num_outputs,
    width,
    PLANES: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    outputs = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N))[:, None]
    rows = outputs.to(tl.int64)
    tile = tl.program_id(1)
    words = tile * (BLOCK_K // PLANES) + tl.arange(0, BLOCK_K // PLANES)[None, :]
    columns = tile * BLOCK_K + word_columns(BLOCK_K // PLANES, PLANES)
    inside = (outputs < num_outputs) & (columns < width)
    codes = tl.load(weight_ptr + rows * weight_stride + words, mask=inside, other=0)
    scale_at = scales_ptr + rows * scales_stride + tile * BLOCK_K // GROUP * groups_stride
    scale = tl.load(scale_at, mask=outputs < num_outputs, other=0.0).to(tl.float32)
    for plane in tl.static_range(PLANES):
        number = decode(codes, plane, tl.float32) * scale
        at = out_ptr + rows * out_stride + columns + 8 * plane
        tl.store(at, number.to(out_ptr.dtype.element_ty), mask=inside)


def dequantize_weight(*, weight: Tensor, scales: Tensor, out: Tensor, tiles: Tiles) -> None:
    """out = codes * scales, rounded once.

    Args:
        weight: codes, int8 [N, K] or int16 [N, K/4]; see quantized_matmul.
        scales: [N, K/G], each for G columns of a row; G a multiple of 32.
        out: [N, K], written; rows contiguous.
    """
    outputs, width = out.shape
    group = width // scales.shape[1]
    constants = dict(tiles["any"])
    if group < width:  # a program needs one scale of each row
        constants["BLOCK_K"] = math.gcd(constants["BLOCK_K"], group)
    grid = (
        ceil_div(outputs, constants["BLOCK_N"]),
        ceil_div(width, constants["BLOCK_K"]),
    )
    _dequantize_weight[grid](
        weight,
        scales,
        out,
        weight.stride(0),
        scales.stride(0),
        scales.stride(1),
        out.stride(0),
        outputs,
        width,
        PLANES=1 if weight.dtype == torch.int8 else 4,
        GROUP=group,
        **constants,
    )
