"""Shapes for quantize_rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.quantize_rows.kernel import quantize_rows
from glmserve_kernels.quantize_rows.reference import quantize_rows as reference


def _make(make: Maker, *, rows: int, width: int, padding: int = 0, scale: float = 1.0) -> Arguments:
    """`padding` more columns than are used lie between two rows of `x`."""
    return {
        "x": make.normal(rows, width + padding, scale=scale)[:, :width],
        "codes": make.poisoned(rows, width, dtype=torch.float8_e4m3fn),
        "scales": make.poisoned(rows, dtype=torch.float32),
    }


def _case(rows: int, width: int, note: str = "", **details: Any) -> Case:
    return Case(f"{rows}x{width}{note}", partial(_make, rows=rows, width=width, **details))


def _served(rows: int, width: int) -> Case:
    return Case(
        f"{rows}x{width}",
        partial(_make, rows=rows, width=width),
        dtypes=(torch.bfloat16, torch.float16),
        expects={"sm_90": ("LDG128", "STG128")},
    )


def _work(x: Tensor, codes: Tensor, scales: Tensor) -> Work:
    read, written = x.numel() * x.element_size(), codes.numel() + scales.nbytes
    return Work(bytes=read + written)


OPERATION = Operation(
    name="quantize_rows",
    launch=quantize_rows,
    reference=reference,
    outputs=("codes", "scales"),
    cases=(
        _case(1, 1),
        _case(3, 64),
        _case(2, 1000, "+padding", padding=3),
        _case(2, 4099),
        _case(2, 256, "+zeros", scale=0.0),
        _case(2, 256, "+large", scale=1000.0),
    ),
    served=(_served(1, 4096), _served(256, 4096), _served(2048, 13696)),
    work=_work,
    chips=("sm_90",),  # sm_80 has no float8, gfx942 has another one
)
