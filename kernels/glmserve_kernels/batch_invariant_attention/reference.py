"""Causal attention, and the sums over pieces that it is merged from."""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve_kernels.paged_attention.reference import Cache, softmax


def batch_invariant_attention(
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
    item_start: Tensor,
    piece: int,
    partial_out: Tensor,
    partial_top: Tensor,
    partial_total: Tensor,
    arrivals: Tensor,
    out: Tensor,
    scale: float,
) -> dict[str, Tensor]:
    """See kernel.batch_invariant_attention. Only pieces of sequences with several pieces are
    written, and no tokens without items."""
    cache = Cache(keys, values, key_scales, value_scales)
    expected = {
        name: torch.full_like(like, float("nan"), dtype=torch.float64)
        for name, like in (
            ("out", out),
            ("partial_out", partial_out),
            ("partial_top", partial_top),
            ("partial_total", partial_total),
        )
    }
    starts, contexts, item_starts = (x.tolist() for x in (query_start, context_lens, item_start))
    for sequence, table in enumerate(block_tables):
        begin, end, context = starts[sequence], starts[sequence + 1], contexts[sequence]
        own = items[item_starts[sequence] : item_starts[sequence + 1]].tolist()
        if not own:
            continue
        rows = q[begin:end]
        positions = torch.arange(context - (end - begin), context, device=q.device)
        expected["out"][begin:end] = softmax(
            rows, positions, cache, table, 0, context, scale
        ).attention
        if end - begin == 1 and len(own) > 1:
            for item, (_, _, first, last) in enumerate(own, item_starts[sequence]):
                part = softmax(rows, positions, cache, table, first, last, scale)
                expected["partial_out"][item] = part.weighted[0]
                expected["partial_top"][item] = part.top[0]
                expected["partial_total"][item] = part.total[0]
    return expected
