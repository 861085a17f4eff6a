"""Causal attention of each sequence's new tokens."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from glmserve_kernels.paged_attention.reference import Cache, softmax


def paged_prefill(
    *,
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    key_scales: Tensor | None,
    value_scales: Tensor | None,
    block_tables: Tensor,
    query_start: Tensor,
    context_lens: Tensor,
    items: Tensor,
    tokens_per_tile: int,
    out: Tensor,
    scale: float,
) -> dict[str, Tensor]:
    """See kernel.paged_prefill. Tokens of no sequence are not written."""
    cache = Cache(keys, values, key_scales, value_scales)
    expected = torch.full_like(out, float("nan"), dtype=torch.float64)
    starts, contexts = query_start.tolist(), context_lens.tolist()
    for sequence, (begin, end) in enumerate(pairwise(starts)):
        if begin == end:
            continue
        context = contexts[sequence]
        positions = torch.arange(context - (end - begin), context, device=q.device)
        table = block_tables[sequence]
        found = softmax(q[begin:end], positions, cache, table, 0, context, scale)
        expected[begin:end] = found.attention
    return {"out": expected}
