"""Each row's adapter by its definition (Hu et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor


def add_lora(
    *,
    x: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    bias: Tensor,
    ranks: Tensor,
    order: Tensor,
    row_tiles: Tensor,
    inner: Tensor,
) -> dict[str, Tensor]:
    """See kernel.add_lora."""
    expected = torch.full_like(y, torch.nan, dtype=torch.float64)
    for slot, first, count in row_tiles.tolist():
        if slot < 0 or ranks[slot] < 0:
            continue
        for row in order[first : first + count].tolist():
            added = b[slot].double() @ (a[slot].double() @ x[row].double()) + bias[slot].double()
            expected[row] = y[row].double() + added
    return {"y": expected}
