"""The operations of a GLM block in plain torch: the reference, and the default of every device.

A device subclasses Ops and overrides methods one by one. The same tests compare each override
with the method here. Shapes: T tokens of one step, H hidden size, Hq query heads, Hkv key/value
heads, D head dim, R rotary dims, S sampled rows, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.contract.step import SamplingInput
from glmserve.model_config import RopeConfig
from glmserve.ops.adapters.plain import PlainLora
from glmserve.ops.adapters.rows import group_rows, to_tensors
from glmserve.ops.adapters.slots import LoraShape, LoraSlots, RowPlan
from glmserve.ops.attention.backend import AttentionBackend, Cache, Plan
from glmserve.ops.batch import Int64Array
from glmserve.ops.few_rows import FewRows
from glmserve.ops.linear.float8 import Float8Weight, RoundedRows, rounded
from glmserve.ops.linear.packed import PackedWeight
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.static import (
    LinearWeight,
    RoundedLinear,
    StaticWeight,
    as_rounded_linear,
)
from glmserve.ops.rope import rope_table
from glmserve.ops.sampling.draw import draw_row
from glmserve.ops.sampling.gumbel import Float32Array


class Ops(Generic[Cache, Plan]):
    """Plain torch, on the device of the tensors.

    Args:
        attention: the backend that plans steps, keeps K and V and attends.
    """

    dequantizes_from = 0
    """`linear` dequantises a weight before it multiplies so many rows or more, as a whole."""
    few_rows: FewRows[Cache, Plan] | None = None
    """Operations for steps of few rows; None: there are none."""

    def __init__(self, attention: AttentionBackend[Cache, Plan]) -> None:
        self.attention = attention

    # --- once, while loading -------------------------------------------------------------------

    def pack_linear(self, weight: LinearWeight) -> PackedWeight:
        """Bring a linear weight [out, in] into the layout that `linear` reads."""
        if isinstance(weight, StaticWeight):
            return as_rounded_linear(weight, self.pack_linear)
        return weight

    def rope_table(self, rope: RopeConfig, length: int, device: torch.device) -> Tensor:
        """Rotations of positions 0..length-1: complex64 [length, R/2].

        Entry (t, i) is exp(j * t / position_divisor * base^(-2i/R)); YaRN has other frequencies,
        and another magnitude than 1. The angle is computed in float32, as in the code of ChatGLM3
        and GLM-4. (In half precision it is off by 0.5 at position 1024.)
        """
        return rope_table(rope, length, device)

    def lora_slots(self, shape: LoraShape) -> LoraSlots:
        """Empty slots for the adapters of one linear module."""
        return PlainLora(shape, self.pack_linear, self.linear)

    # --- per step ------------------------------------------------------------------------------

    def plan_adapters(self, slots: Int64Array) -> RowPlan:
        """What the modules of a step share about its adapters.

        Args:
            slots: [T], the slot of each row's adapter, or NO_SLOT.
        """
        return to_tensors(group_rows(slots), self.attention.uploads)

    def embedding(self, token_ids: Tensor, weight: Tensor) -> Tensor:
        """Rows of `weight` [vocab, H] at `token_ids` int64 [T]: [T, H]."""
        return F.embedding(token_ids, weight)

    def rope_rows(self, table: Tensor, positions: Tensor) -> Tensor:
        """Rotations of this step's tokens, the same for all layers.

        Args:
            table: from `rope_table`.
            positions: int64 [T]; or [2, T], where the first position of a token rotates dims
                0..R-1 of a head and the second rotates dims R..2R-1.

        Returns:
            complex64 [T, 1, R/2], or [T, 1, R] for two positions. Subclasses may use another
            layout, as only `rope` and `self_attention` read it.
        """
        if positions.dim() == 1:
            return table.index_select(0, positions).unsqueeze(1)
        rows = table[positions]  # [2, T, R/2]
        return rows.movedim(-2, 0).flatten(1).unsqueeze(1)  # [T, 1, R]

    # --- per layer -----------------------------------------------------------------------------

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / sqrt(mean(x^2) + eps) * weight over the last dim, computed in float32, rounded once.

        Args:
            x: [T, H]
            weight: [H]

        Returns:
            [T, H], in the dtype of x.
        """
        return torch.rms_norm(x, weight.shape, weight, eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        """rms_norm of x + residual, [T, H]. The sum is written to `residual`, in its dtype."""
        return self.rms_norm(residual.add_(x), weight, eps)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """LayerNorm over the last dim of [T, H]; torch computes it in float32 and rounds once."""
        return torch.layer_norm(x, weight.shape, weight, bias, eps)

    def logits(self, x: Tensor, weight: PackedWeight) -> Tensor:
        """The output layer: `linear` as float32."""
        return self.linear(x, weight).float()

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        """x [T, in] @ weight^T + bias: [T, out]. `weight` comes from `pack_linear`."""
        if isinstance(weight, RoundedLinear):
            total = weight.bias if bias is None else weight.bias + bias
            return self.linear(weight.rounding(x), weight.weight, total.to(x.dtype))
        if isinstance(weight, RoundedRows):
            return self.linear(rounded(x), weight.weight, bias)
        if isinstance(weight, Float8Weight):
            x = rounded(x)
        if isinstance(weight, QuantizedWeight | Float8Weight):
            weight = weight.dequantized(x.dtype)
        return F.linear(x, cast(Tensor, weight), bias)

    def silu_and_mul(self, x: Tensor) -> Tensor:
        """[T, 2F] to [T, F]: silu(first half of the last dim) * second half."""
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    def gelu(self, x: Tensor) -> Tensor:
        """GELU by its tanh approximation (Hendrycks, Gimpel 2016), elementwise."""
        return F.gelu(x, approximate="tanh")

    def rope(self, heads: Tensor, rows: Tensor) -> None:
        """Rotate adjacent pairs of the first R dims of `heads` [T, heads, D], in place.

        Pair (2i, 2i+1) is one complex number; it is multiplied by entry i of the token's row of
        `rows`. Computed in float32 and rounded once. Dims from R on stay unchanged.
        """
        rotary = heads[..., : 2 * rows.shape[-1]]  # [T, heads, R]
        if heads.dtype == torch.float32:
            _as_complex(rotary).mul_(rows)
        else:
            rotated = _as_complex(rotary.float()).mul_(rows)
            rotary.copy_(torch.view_as_real(rotated).flatten(-2))

    def self_attention(self, qkv: Tensor, rope_rows: Tensor, cache: Cache, plan: Plan) -> Tensor:
        """Rotate queries and keys, store keys and values, attend.

        Args:
            qkv: [T, Hq + 2*Hkv, D]: all query heads, all key heads, all value heads; overwritten.
            rope_rows: from `rope_rows`.
            cache: this layer's cache, from `attention.allocate`. The step's slots are written.
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
        """Index and value of the largest entry of each row of [S, V]; of equals, the lowest index.

        The value of a row that holds a NaN is NaN.
        """
        values, ids = logits.max(dim=-1)
        return ids.tolist(), values.tolist()

    def draw(
        self, logits: Float32Array, rows: Sequence[int], inputs: Sequence[SamplingInput]
    ) -> list[int]:
        """Draw a token id from each of `rows` of [S, V].

        Temperature, top_k, top_p and min_p are applied; penalties and biases are in the logits
        already.

        Args:
            logits: float32 [S, V]
            rows: indices of the rows to draw from.
            inputs: how to draw from each of `rows`; no temperature is 0.

        Returns:
            One id for each of `rows`. INVALID_TOKEN_ID for a row that is not finite, see
            runner/sampler.py.
        """
        return [
            draw_row(logits[row], s.noise_key, s.sampling)
            for row, s in zip(rows, inputs, strict=True)
        ]


AnyOps = Ops[Any, Any]
"""Operations that an option selects at run time, with the attention backend that belongs to
them."""


def _as_complex(x: Tensor) -> Tensor:
    """View [T, heads, R] float32 as [T, heads, R/2] complex64."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
