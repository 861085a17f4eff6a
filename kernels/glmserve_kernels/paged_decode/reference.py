"""Attention of each sequence's newest token."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from glmserve_kernels.paged_attention.reference import Cache, softmax


def paged_decode(
    *,
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    key_scales: Tensor | None,
    value_scales: Tensor | None,
    block_tables: Tensor,
    items: Tensor,
    item_start: Tensor,
    partial_out: Tensor,
    partial_lse: Tensor,
    arrivals: Tensor,
    out: Tensor,
    scale: float,
) -> dict[str, Tensor]:
    """See kernel.paged_decode."""
    cache = Cache(keys, values, key_scales, value_scales)
    expected = torch.full_like(out, float("nan"), dtype=torch.float64)
    for sequence, (begin, end) in enumerate(pairwise(item_start.tolist())):
        if end > begin:
            context = int(items[end - 1, 2])
            newest = torch.tensor([context - 1], device=q.device)
            row, table = q[sequence, None], block_tables[sequence]
            whole = softmax(row, newest, cache, table, 0, context, scale)
            expected[sequence] = whole.attention[0]
    return {"out": expected}
