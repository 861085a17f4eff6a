"""Operations of a CPU by torch: faster forms of the plain operations where torch has them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from glmserve.ops.attention.backend import AttentionBackend, Cache, Plan
from glmserve.ops.base import Ops
from glmserve.ops.linear.float8 import Float8Weight, RoundedRows
from glmserve.ops.linear.packed import PackedWeight
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.static import LinearWeight, RoundedLinear, StaticWeight
from glmserve.ops.linear.torch_cpu import QuantizedLinear, pack_quantized

_PACKED_FOR_ROWS = 16
"""oneDNN chooses the layout of a packed weight for one number of rows; it works for any number."""


class TorchCpuOps(Ops[Cache, Plan]):
    """Linear weights are packed once for oneDNN, as torch.compile's freezing does.

    Measured on a Zen 4 (float32 / bfloat16, 2 threads): a packed 4096x768 weight takes 0.6x / 0.4x
    the time of F.linear at one row and 0.5x / 0.6x at sixteen.

    Quantised weights stay quantised if activations are in bfloat16. Otherwise they are dequantised
    while loading, which is exact in float32.

    Args:
        dtype: of activations.
    """

    def __init__(self, attention: AttentionBackend[Cache, Plan], dtype: torch.dtype) -> None:
        super().__init__(attention)
        self._dtype = dtype

    @property
    def keeps_codes(self) -> bool:
        """Whether quantised weights stay quantised; otherwise they are dequantised while
        loading."""
        return self._dtype == torch.bfloat16

    def pack_linear(self, weight: LinearWeight) -> PackedWeight:
        if isinstance(weight, StaticWeight):
            return super().pack_linear(weight)
        if isinstance(weight, Float8Weight):
            return RoundedRows(self.pack_linear(weight.dequantized(self._dtype)))
        if isinstance(weight, QuantizedWeight):
            if self.keeps_codes:
                return pack_quantized(weight)
            weight = weight.dequantized(self._dtype)
        if not _can_pack(weight.dtype):
            return weight
        return torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR_ROWS)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        if isinstance(weight, RoundedLinear | RoundedRows):
            return super().linear(x, weight, bias)
        if not isinstance(weight, Tensor):
            return cast(QuantizedLinear, weight)(x, bias)
        if not weight.is_mkldnn:
            return super().linear(x, weight, bias)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y

    def argmax(self, logits: Tensor) -> tuple[list[int], list[float]]:
        rows = (
            logits.numpy()
        )  # numpy's argmax is vectorised: 4 us for 65024 entries, torch's takes 55
        ids = [int(row.argmax()) for row in rows]
        return ids, [float(row[i]) for row, i in zip(rows, ids, strict=True)]


AnyCpuOps = TorchCpuOps[Any, Any]
"""The operations that an option selects at run time."""


def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch and this CPU have oneDNN's packed linear for `dtype`."""
    if not torch._C._has_mkldnn:
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
