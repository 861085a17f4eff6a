"""Norms, activations and the rotation."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from support.ascend_simulator.arguments import FLOATS, require


def npu_rms_norm(input: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    require(input.dtype in FLOATS and gamma.dtype == input.dtype, "dtypes of input and gamma")
    require(gamma.shape == input.shape[-1:], "gamma is not as wide as input")
    wide = input.float()
    rstd = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return (wide * rstd * gamma.float()).to(input.dtype), rstd


def npu_add_rms_norm(
    x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    require(x1.shape == x2.shape and x1.dtype == x2.dtype, "x1 and x2 differ")
    total = x1 + x2
    return *npu_rms_norm(total, gamma, epsilon), total


def npu_swiglu(input: Tensor, dim: int = -1) -> Tensor:
    require(input.dtype in FLOATS and input.shape[dim] % 2 == 0, "an odd size, or its dtype")
    gate, up = input.float().chunk(2, dim)
    return (F.silu(gate) * up).to(input.dtype)


def npu_rotary_mul(
    input: Tensor,
    r1: Tensor,
    r2: Tensor,
    rotary_mode: str = "half",
    rotate: Tensor | None = None,
) -> Tensor:
    require(input.dim() == r1.dim() == r2.dim() == 4 and rotate is None, "four dims each")
    require(input.dtype == r1.dtype == r2.dtype, "dtypes differ")
    batch, tokens, heads, dims = input.shape
    require(rotary_mode == "interleave", "a GLM turns adjacent pairs")
    require(r1.shape == r2.shape == (1, tokens, 1, dims), "r1 and r2 are not 1S1D")
    require(batch * heads < 1000 and dims < 896 and dims % 2 == 0, "B * N or D is too large")
    turned = torch.stack((-input[..., 1::2], input[..., ::2]), dim=-1).flatten(-2)
    return input * r1 + turned * r2
