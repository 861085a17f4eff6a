"""Attention of each sequence's newest token, and of the pieces it is merged from."""

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
    out: Tensor,
    scale: float,
) -> dict[str, Tensor]:
    """See kernel.paged_decode. Only the pieces of sequences with several are written."""
    cache = Cache(keys, values, key_scales, value_scales)
    pieces = torch.full_like(partial_out, float("nan"), dtype=torch.float64)
    lse = torch.full_like(partial_lse, float("nan"), dtype=torch.float64)
    expected = torch.zeros_like(out, dtype=torch.float64)
    for sequence, (begin, end) in enumerate(pairwise(item_start.tolist())):
        own = items[begin:end].tolist()
        if not own:
            continue
        newest = torch.tensor([own[-1][2] - 1], device=q.device)
        row, table = q[sequence, None], block_tables[sequence]
        whole = softmax(row, newest, cache, table, 0, own[-1][2], scale)
        expected[sequence] = whole.attention[0]
        if len(own) > 1:
            for item, (_, first, last) in enumerate(own, begin):
                part = softmax(row, newest, cache, table, first, last, scale)
                pieces[item] = part.attention[0]
                lse[item] = (part.top + part.total.log2())[0]
    return {"out": expected, "partial_out": pieces, "partial_lse": lse}
