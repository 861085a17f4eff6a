"""What the cases of these products share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glmserve_kernels.few_rows.plan import Split
from glmserve_kernels.operation import Arguments, Maker
from glmserve_kernels.quantized_matmul.cases import make_weight as make_quantized

PRODUCT = {
    "sm_80": ("HMMA", "LDGSTS128"),
    "sm_90": ("HMMA", "LDGSTS128"),
    "gfx942": ("MFMA", "LOAD128"),
}
"""Instructions that a product has."""


class Codes(NamedTuple):
    """How a weight is quantised."""

    bits: int
    group: int | None = None
    """Columns that share a scale; None: all."""

    @property
    def name(self) -> str:
        return f"int{self.bits}" + (f"-g{self.group}" if self.group else "")


def make_weight(
    make: Maker, outputs: int, width: int, codes: Codes | None, padding: int = 0
) -> Arguments:
    """A weight, and its scales if it is of codes; products with normally distributed numbers are
    about 1. `padding` more columns than are used lie between two rows of numbers."""
    if codes is None:
        numbers = make.normal(outputs, width + padding, scale=width**-0.5)
        return {"weight": numbers[:, :width], "scales": None}
    group = codes.group or width
    weight, scales = make_quantized(
        make, outputs, width, bits=codes.bits, group=group, scale_dtype=torch.float32
    )
    return {"weight": weight, "scales": scales}


def suffix(codes: Codes | None, **details: Any) -> str:
    """What a case's name says about its weight and more."""
    notes = [codes.name] if codes else []
    return "".join(f"+{note}" for note in [*notes, *(key for key in details if details[key])])


def weight_bytes(weight: Tensor, scales: Tensor | None) -> int:
    """That a product reads of a weight."""
    return weight.nbytes + (0 if scales is None else scales.nbytes)


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
