"""Shapes for rms_norm."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.rms_norm.kernel import rms_norm
from glmserve_kernels.rms_norm.reference import rms_norm as reference


def _make(make: Maker, *, rows: int, width: int, residual: bool, padding: int = 0) -> Arguments:
    """`padding` more columns than are used lie between two rows of each tensor."""
    wide = width + padding
    return {
        "x": make.normal(rows, wide)[:, :width],
        "residual": make.normal(rows, wide, scale=3.0)[:, :width] if residual else None,
        "weight": make.normal(width),
        "out": make.poisoned(rows, wide)[:, :width],
        "eps": 1e-5,
    }


def _case(rows: int, width: int, residual: bool, padding: int = 0) -> Case:
    name = f"{rows}x{width}{'+residual' if residual else ''}{'+padding' if padding else ''}"
    make = partial(_make, rows=rows, width=width, residual=residual, padding=padding)
    return Case(name, make)


def _served(rows: int, width: int, residual: bool) -> Case:
    make = partial(_make, rows=rows, width=width, residual=residual)
    return Case(
        f"{rows}x{width}{'+residual' if residual else ''}",
        make,
        dtypes=(torch.bfloat16, torch.float16),
        expects={"sm_80": ("LDG128", "STG128"), "sm_90": ("LDG128", "STG128")},
    )


def _work(x: torch.Tensor, residual: torch.Tensor | None, **_: Any) -> Work:
    passes = 2 if residual is None else 4
    return Work(bytes=passes * x.numel() * x.element_size())


OPERATION = Operation(
    name="rms_norm",
    launch=rms_norm,
    reference=reference,
    outputs=("residual", "out"),
    cases=(
        _case(1, 1, True),
        _case(3, 64, True),
        _case(3, 64, False),
        _case(2, 100, True, padding=3),
        _case(5, 4096, True),
        _case(2, 5000, False),
    ),
    served=(_served(1, 4096, True), _served(4096, 4096, True), _served(4096, 4096, False)),
    work=_work,
)
