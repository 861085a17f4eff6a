"""The operations a GLM block needs, in plain torch: the reference, and the default of every device.

A device subclasses Ops and overrides one method at a time; each override is held to the method
here by the same tests. Shapes: T tokens of one step, H hidden size, Hq query heads, Hkv key/value
heads, D head dim, R rotary dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.contract.step import SamplingInput
from glmserve.model_config import RopeConfig
from glmserve.ops.attention import AttentionBackend, AttentionPlan, LayerCache
from glmserve.ops.drawing import draw_row
from glmserve.ops.gumbel import Float32Array
from glmserve.ops.quantized import QuantizedWeight

PackedWeight = Any
"""What `pack_linear` made of a weight; only `linear` of the same Ops looks inside."""


class Ops:
    """Plain torch, on whatever device the tensors are."""

    def __init__(self, attention: AttentionBackend) -> None:
        self.attention = attention

    # --- once, while loading -------------------------------------------------------------------

    def pack_linear(self, weight: Tensor | QuantizedWeight) -> PackedWeight:
        """Bring a linear weight [out, in] into the layout that `linear` wants."""
        return weight

    def rope_table(self, rope: RopeConfig, length: int, device: torch.device) -> Tensor:
        """Rotations of positions 0..length-1: complex64 [length, R/2].

        Entry (t, i) is exp(j * t / position_divisor * base^(-2i/R)); the angle is computed in
        float32, as ChatGLM3's and GLM-4's own code do (half precision is off by 0.5 at position
        1024).
        """
        exponents = torch.arange(0, rope.dim, 2, dtype=torch.float32, device=device) / rope.dim
        frequencies = 1.0 / rope.base**exponents
        if rope.rounded_frequencies:
            frequencies = frequencies.half().float()
        positions = torch.arange(length, dtype=torch.float32, device=device) / rope.position_divisor
        angles = torch.outer(positions, frequencies)
        return torch.polar(torch.ones_like(angles), angles)

    # --- per step ------------------------------------------------------------------------------

    def embedding(self, token_ids: Tensor, weight: Tensor) -> Tensor:
        """Rows of `weight` [vocab, H] at `token_ids` int64 [T]: [T, H]."""
        return F.embedding(token_ids, weight)

    def rope_rows(self, table: Tensor, positions: Tensor) -> Tensor:
        """Rotations of this step's tokens, shared by all layers; opaque like the table.

        Of pairs of positions [2, T] the first turns dims 0..R-1 of a head, the second R..2R-1.
        """
        rows = table[positions]  # [T, R/2] or [2, T, R/2]
        return rows.movedim(-2, 0).flatten(1).unsqueeze(1)  # [T, 1, R/2] or [T, 1, R]

    # --- per layer -----------------------------------------------------------------------------

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / sqrt(mean(x^2) + eps) * weight over the last dim: float32 inside, rounded once."""
        return torch.rms_norm(x, weight.shape, weight, eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        """rms_norm of x + residual, which becomes the new `residual`, rounded to its dtype."""
        return self.rms_norm(residual.add_(x), weight, eps)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """LayerNorm over the last dim; torch computes it in float32 and rounds once."""
        return torch.layer_norm(x, weight.shape, weight, bias, eps)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        """x [T, in] @ weight^T + bias: [T, out]. `weight` comes from `pack_linear`."""
        if isinstance(weight, QuantizedWeight):
            weight = weight.dequantized(x.dtype)
        return F.linear(x, weight, bias)

    def silu_and_mul(self, x: Tensor) -> Tensor:
        """silu(first half) * second half of the last dim: [T, 2F] to [T, F]."""
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    def gelu(self, x: Tensor) -> Tensor:
        """GELU by its tanh approximation."""
        return F.gelu(x, approximate="tanh")

    def rope(self, heads: Tensor, rows: Tensor) -> None:
        """Rotate adjacent pairs of the first R dims of `heads` [T, heads, D], in place.

        Pair (2i, 2i+1) is one complex number, turned by entry i of the token's row. Computed in
        float32 and rounded once; dims from R on pass through.
        """
        rotary = heads[..., : 2 * rows.shape[-1]]  # [T, heads, R]
        if heads.dtype == torch.float32:
            _as_complex(rotary).mul_(rows)
        else:
            turned = _as_complex(rotary.float()).mul_(rows)
            rotary.copy_(torch.view_as_real(turned).flatten(-2))

    def self_attention(
        self, qkv: Tensor, rope_rows: Tensor, cache: LayerCache, plan: AttentionPlan
    ) -> Tensor:
        """Rotate queries and keys, store keys and values, attend.

        Args:
            qkv: [T, Hq + 2*Hkv, D], all queries, all keys, all values; overwritten.
            rope_rows: from `rope_rows`.
            cache: this layer's cache, from `attention.allocate`; slots of the step are written.
            plan: from `attention.plan`.

        Returns:
            [T, Hq, D]
        """
        num_kv_heads = self.attention.num_kv_heads
        num_queries = qkv.shape[1] - 2 * num_kv_heads
        self.rope(qkv[:, : num_queries + num_kv_heads], rope_rows)
        self.attention.write(qkv[:, num_queries:], cache, plan)
        return self.attention.run(qkv, cache, plan)

    # --- per step, at the end ------------------------------------------------------------------

    def argmax(self, logits: Tensor) -> tuple[list[int], list[float]]:
        """The first largest entry of each row of [S, V]: ids, and the values there.

        A row that holds a NaN gives NaN as its value.
        """
        values, ids = logits.max(dim=-1)
        return ids.tolist(), values.tolist()

    def draw(
        self, logits: Float32Array, rows: Sequence[int], inputs: Sequence[SamplingInput]
    ) -> list[int]:
        """Ids drawn from some `rows` of [S, V], each by its SamplingInput; penalties aside.

        Temperatures are more than 0. A row that is not finite gives INVALID_TOKEN_ID, see
        runner/sampler.py.
        """
        return [draw_row(logits[row], s) for row, s in zip(rows, inputs, strict=True)]


def _as_complex(x: Tensor) -> Tensor:
    """View [T, heads, R] float32 as [T, heads, R/2] complex64."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
