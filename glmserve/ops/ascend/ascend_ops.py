"""Operations by the vendor's calls, each in place of one method of Ops."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from glmserve.model_config import RopeConfig
from glmserve.ops.ascend.chip import Chip
from glmserve.ops.ascend.linear import AscendLinear, pack_quantized, pack_static
from glmserve.ops.attention.backend import AttentionBackend, Cache, Plan
from glmserve.ops.base import Ops
from glmserve.ops.linear.packed import PackedWeight
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.static import LinearWeight, RoundedLinear, StaticWeight

_HOST = torch.device("cpu")


class AscendOps(Ops[Cache, Plan]):
    """RMSNorm, the sum before it, and products with quantised weights: every chip has these.

    Args:
        dtype: of activations.
    """

    def __init__(
        self, attention: AttentionBackend[Cache, Plan], dtype: torch.dtype, chip: Chip
    ) -> None:
        super().__init__(attention)
        self._dtype = dtype
        self._chip = chip

    def rope_table(self, rope: RopeConfig, length: int, device: torch.device) -> Tensor:
        # On the host, because NPUs have no complex numbers.
        return _cos_sin(super().rope_table(rope, length, _HOST)).to(device)

    def rope_rows(self, table: Tensor, positions: Tensor) -> Tensor:
        """Cosines and sines: float32 [2, T, 1, R], or [2, T, 1, 2R] for two positions. Each stands
        twice, for both numbers of its pair."""
        rows = table[positions]  # [T, 2, R] or [2, T, 2, R]
        if positions.ndim > 1:
            rows = torch.cat(rows.unbind(), dim=-1)
        return rows.transpose(0, 1).unsqueeze(2).contiguous()

    def rope(self, heads: Tensor, rows: Tensor) -> None:
        cos, sin = rows  # [T, 1, R]
        rotary = heads[..., : rows.shape[-1]]
        x = rotary.float()
        rotary.copy_(x * cos + _turned(x) * sin)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed: Tensor = torch.ops.npu.npu_rms_norm(x, weight, eps)[0]
        return normed

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed: Tensor
        normed, _, total = torch.ops.npu.npu_add_rms_norm(x, residual, weight, eps)
        residual.copy_(total)
        return normed

    def pack_linear(self, weight: LinearWeight) -> PackedWeight:
        if isinstance(weight, StaticWeight):
            return pack_static(weight, self._dtype, self._chip) or super().pack_linear(weight)
        if isinstance(weight, QuantizedWeight):
            return pack_quantized(weight, self._dtype, self._chip) or weight
        return weight

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        if isinstance(weight, (Tensor, QuantizedWeight, RoundedLinear)):
            return super().linear(x, weight, bias)
        return cast(AscendLinear, weight)(x, bias)


class FusedAscendOps(AscendOps[Cache, Plan]):
    """SwiGLU and the rotation as well, on chips with `has_fused_calls`."""

    def rope(self, heads: Tensor, rows: Tensor) -> None:
        # The call takes [B, S, heads, dims], and cosines and sines of one S for all of B. It copies
        # the rotary half of each head in any case; a copy in float32 rounds only once.
        cos, sin = rows.unsqueeze(1)
        rotary = heads[..., : rows.shape[-1]]
        turned = torch.ops.npu.npu_rotary_mul(rotary.float().unsqueeze(0), cos, sin, "interleave")
        rotary.copy_(turned.squeeze(0))

    def silu_and_mul(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.npu.npu_swiglu(x)
        return product


def _cos_sin(table: Tensor) -> Tensor:
    """Complex [length, R/2] to float32 [length, 2, R]."""
    parts = torch.view_as_real(table)  # [length, R/2, 2]
    return parts.transpose(1, 2).repeat_interleave(2, dim=-1).contiguous()


def _turned(x: Tensor) -> Tensor:
    """Each adjacent pair (a, b) as (-b, a)."""
    pairs = x.view(*x.shape[:-1], -1, 2)
    return torch.stack((-pairs[..., 1], pairs[..., 0]), dim=-1).flatten(-2)
