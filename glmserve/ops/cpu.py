"""Operations where the CPU has something better than the plain form."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from glmserve.ops.attention import AttentionBackend
from glmserve.ops.base import Ops, PackedWeight
from glmserve.ops.cpu_quantized import QuantizedLinear, pack_quantized
from glmserve.ops.quantized import QuantizedWeight
from glmserve.ops.sdpa import SdpaAttention

_PACKED_FOR_ROWS = 16
"""oneDNN picks the blocking of a packed weight for one number of rows; all others work with it."""


class CpuOps(Ops):
    """Linear weights are packed once for oneDNN, as torch.compile's freezing does.

    Measured on a Zen 4 (float32 / bfloat16, 2 threads): a packed 4096x768 weight takes 0.6x / 0.4x
    the time of F.linear at one row and 0.5x / 0.6x at sixteen.

    Quantised weights stay so with activations in bfloat16; otherwise they are dequantised once,
    which is exact in float32.
    """

    def __init__(self, attention: AttentionBackend, dtype: torch.dtype) -> None:
        super().__init__(attention)
        self._dtype = dtype  # of activations

    @property
    def keeps_codes(self) -> bool:
        """Whether quantised weights stay so; otherwise they are dequantised once."""
        return self._dtype == torch.bfloat16

    def pack_linear(self, weight: Tensor | QuantizedWeight) -> PackedWeight:
        if isinstance(weight, QuantizedWeight):
            if self.keeps_codes:
                return pack_quantized(weight)
            weight = weight.dequantized(self._dtype)
        if not _can_pack(weight.dtype):
            return weight
        return torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR_ROWS)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        if not isinstance(weight, Tensor):
            return cast(QuantizedLinear, weight)(x, bias)
        if not weight.is_mkldnn:
            return super().linear(x, weight, bias)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y

    def argmax(self, logits: Tensor) -> tuple[list[int], list[float]]:
        rows = logits.numpy()  # numpy's argmax is vectorised: 4 us for 65024 entries, torch's 55
        ids = [int(row.argmax()) for row in rows]
        return ids, [float(row[i]) for row, i in zip(rows, ids, strict=True)]


class CpuAttention(SdpaAttention):
    """Works around torch's half-precision attention with a single query per key/value head.

    With 8 heads of 64, 16 sequences and 256 tokens it takes 8 ms in bfloat16 and 0.8 ms in float32.
    """

    def _attend_folded(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if q.shape[2] > 1 or q.dtype == torch.float32:
            return super()._attend_folded(q, k, v, mask)
        wide = mask if mask is None else mask.float()
        return super()._attend_folded(q.float(), k.float(), v.float(), wide).to(q.dtype)


def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch and this CPU have oneDNN's packed linear for `dtype`."""
    if not torch._C._has_mkldnn:
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
