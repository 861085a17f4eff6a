"""One thread per entry."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.tiles import Tiles


@triton.jit(do_not_specialize=["count"])
def _adjust_logits(
    logits_ptr,
    rows_ptr,
    ids_ptr,
    repetition_ptr,
    subtract_ptr,
    bias_ptr,
    logits_stride,
    count,
    BLOCK: tl.constexpr,
):
    entries = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = entries < count
    rows = tl.load(rows_ptr + entries, mask=inside, other=0).to(tl.int64)
    ids = tl.load(ids_ptr + entries, mask=inside, other=0)
    repetition = tl.load(repetition_ptr + entries, mask=inside, other=1.0)
    subtract = tl.load(subtract_ptr + entries, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + entries, mask=inside, other=0.0)
    at = logits_ptr + rows * logits_stride + ids
    value = tl.load(at, mask=inside, other=0.0)
    value = tl.where(value > 0, tl.div_rn(value, repetition), value * repetition)
    barred = bias == float("-inf")
    value = value - subtract + tl.where(barred, 0.0, bias)
    tl.store(at, tl.where(barred, bias, value), mask=inside)


def adjust_logits(
    *,
    logits: Tensor,
    rows: Tensor,
    ids: Tensor,
    repetition: Tensor,
    subtract: Tensor,
    bias: Tensor,
    tiles: Tiles,
) -> None:
    """logits[row, id] = x / repetition - subtract + bias, where x > 0; else x * repetition - ...

    Args:
        logits: float32 [S, V], rows contiguous; changed in place.
        rows, ids: int32 [E], E > 0: no pair may occur twice.
        repetition, subtract, bias: float32 [E]. A bias of -inf makes any logit -inf, NaN as
            well.
    """
    count = len(rows)
    constants = tiles["any"]
    _adjust_logits[(ceil_div(count, constants["BLOCK"]),)](
        logits, rows, ids, repetition, subtract, bias, logits.stride(0), count, **constants
    )
