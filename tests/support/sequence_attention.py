"""Attention of sequences that stand side by side, each computed by itself."""

from __future__ import annotations

import torch
from torch import Tensor


def attend_each(
    query: Tensor, key: Tensor, value: Tensor, query_ends: Tensor, key_ends: Tensor, scale: float
) -> Tensor:
    """Causal attention within each sequence: its last query attends to all of its keys.

    Args:
        query: [query tokens, heads, head size].
        key, value: [key tokens, key heads, head size].
        query_ends, key_ends: [sequences + 1], 0 and where each sequence ends.

    Returns: as the query; NaN behind the last sequence.
    """
    output = torch.full_like(query, torch.nan)
    starts = zip(query_ends.tolist(), key_ends.tolist(), strict=True)
    first_query, first_key = next(starts)
    for end_query, end_key in starts:
        queries, keys = slice(first_query, end_query), slice(first_key, end_key)
        output[queries] = _attend(query[queries], key[keys], value[keys], scale)
        first_query, first_key = end_query, end_key
    return output


def attend_runs(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, counts: Tensor, scale: float
) -> Tensor:
    """Attention of one query of each sequence to a run of rows.

    Args:
        query: [sequences, heads, head size].
        key, value: [rows, key heads, head size].
        starts, counts: [sequences], the first row of each and how many there are.

    Returns: as the query; NaN for a sequence without rows.
    """
    output = torch.full_like(query, torch.nan)
    for i, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
        if count:
            rows = slice(start, start + count)
            output[i] = _attend(query[i : i + 1], key[rows], value[rows], scale)[0]
    return output


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """One sequence."""
    key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * scale
    hidden = torch.ones_like(scores[0]).triu(1 + len(key) - len(query)).bool()
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value)
