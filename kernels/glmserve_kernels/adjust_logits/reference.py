"""Penalties, biases and bans, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def adjust_logits(
    *,
    logits: Tensor,
    rows: Tensor,
    ids: Tensor,
    repetition: Tensor,
    subtract: Tensor,
    bias: Tensor,
) -> dict[str, Tensor]:
    """See kernel.adjust_logits."""
    expected = torch.full_like(logits, float("nan"), dtype=torch.float64)
    for row, token, factor, less, more in zip(rows, ids, repetition, subtract, bias, strict=True):
        value = logits[row, token].double()
        value = value / factor if value > 0 else value * factor
        expected[row, token] = more if more == -torch.inf else value - less + more
    return {"logits": expected}
