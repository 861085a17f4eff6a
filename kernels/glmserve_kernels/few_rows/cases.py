"""What the cases of these products share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from glmserve_kernels.few_rows.plan import Split
from glmserve_kernels.operation import Arguments, Maker

PRODUCT = {
    "sm_80": ("HMMA", "LDGSTS128"),
    "sm_90": ("HMMA", "LDGSTS128"),
    "gfx942": ("MFMA", "LOAD128"),
}
"""Instructions that a product has."""


def make_normed(make: Maker, rows: int, width: int, padding: int) -> Arguments:
    """Rows and their norm, with sums of squares of 64 columns. `padding` more columns than are used
    lie between two rows."""
    x = make.normal(rows, width + padding, scale=3.0)[:, :width]
    squares = torch.split(x.float().square(), 64, dim=1)
    return {
        "x": x,
        "squares": torch.stack([part.sum(1) for part in squares], dim=1),
        "norm": make.normal(width),
        "eps": 1e-5,
    }


def make_scratch(make: Maker, plans: Sequence[Split]) -> Arguments:
    """`partial` and `arrivals`, enough for each of these plans."""
    partials = max(plan.partials for plan in plans)
    return {
        "partial": make.poisoned(partials, dtype=torch.float32) if partials else None,
        "arrivals": make.given([0] * max(plan.tiles for plan in plans), torch.int32)
        if partials
        else None,
    }
