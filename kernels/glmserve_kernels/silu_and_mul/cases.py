"""Shapes for silu_and_mul."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.silu_and_mul.kernel import silu_and_mul
from glmserve_kernels.silu_and_mul.reference import silu_and_mul as reference


def _make(make: Maker, *, rows: int, width: int, padding: int = 0, scale: float = 1.0) -> Arguments:
    """`padding` more columns than are used lie between two rows of each tensor."""
    return {
        "x": make.normal(rows, 2 * width + padding, scale=scale)[:, : 2 * width],
        "out": make.poisoned(rows, width + padding)[:, :width],
    }


def _case(rows: int, width: int, note: str = "", **details: Any) -> Case:
    return Case(f"{rows}x{width}{note}", partial(_make, rows=rows, width=width, **details))


def _served(rows: int, width: int) -> Case:
    return Case(
        f"{rows}x{width}",
        partial(_make, rows=rows, width=width),
        dtypes=(torch.bfloat16, torch.float16),
        expects={
            "sm_80": ("LDG128", "STG128"),
            "sm_90": ("LDG128", "STG128"),
            "gfx942": ("LOAD128", "STORE128"),
        },
    )


def _work(x: Tensor, out: Tensor) -> Work:
    return Work(bytes=(x.numel() + out.numel()) * x.element_size())


OPERATION = Operation(
    name="silu_and_mul",
    launch=silu_and_mul,
    reference=reference,
    outputs=("out",),
    cases=(
        _case(1, 1),
        _case(3, 64),
        _case(2, 1000, "+padding", padding=3),
        _case(2, 4099),
        _case(2, 256, "+saturated", scale=60.0),
    ),
    served=(_served(1, 13696), _served(2048, 13696)),
    work=_work,
)
