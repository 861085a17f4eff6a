"""Shapes for matmul_add."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.few_rows.cases import PRODUCT, make_scratch
from glmserve_kernels.matmul_add.kernel import count_parts, matmul_add, split_plan
from glmserve_kernels.matmul_add.reference import matmul_add as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.tiles import CHIPS, load_tiles


def make_arguments(
    make: Maker,
    *,
    rows: int,
    outputs: int,
    width: int,
    bias: bool = False,
    padding: int = 0,
) -> Arguments:
    """`padding` more columns than are used lie between two rows of each matrix."""
    weight = make.normal(outputs, width + padding, scale=width**-0.5)[:, :width]
    return {
        "x": make.normal(rows, width + padding)[:, :width],
        "weight": weight,
        "bias": make.normal(outputs) if bias else None,
        "residual": make.normal(rows, outputs + padding, scale=3.0)[:, :outputs],
        "squares": make.poisoned(rows, count_parts(outputs), dtype=torch.float32),
        **make_scratch(make, [split_plan(weight, load_tiles("matmul_add", c)) for c in CHIPS]),
    }


def _case(rows: int, outputs: int, width: int, **details: Any) -> Case:
    make = partial(make_arguments, rows=rows, outputs=outputs, width=width, **details)
    return Case(_name(rows, outputs, width, **details), make)


def _name(rows: int, outputs: int, width: int, **details: Any) -> str:
    return f"{rows}x{outputs}x{width}" + "".join(f"+{key}" for key in details)


def _served(rows: int, outputs: int, width: int) -> Case:
    return Case(
        _name(rows, outputs, width),
        partial(make_arguments, rows=rows, outputs=outputs, width=width),
        dtypes=(torch.bfloat16, torch.float16),
        expects=PRODUCT,
    )


def _work(x: Tensor, weight: Tensor, residual: Tensor, **_: Any) -> Work:
    numbers = x.numel() + weight.numel() + 2 * residual.numel()
    return Work(bytes=numbers * x.element_size(), flops=2 * x.shape[0] * weight.numel())


OPERATION = Operation(
    name="matmul_add",
    launch=matmul_add,
    reference=reference,
    outputs=("residual", "squares"),
    scratch=("partial", "arrivals"),
    cases=(
        _case(1, 1, 1),
        _case(3, 64, 128, bias=True),
        _case(16, 130, 1100, bias=True, padding=3),
        _case(5, 80, 2048),
    ),
    served=(
        _served(1, 4096, 4096),
        _served(1, 4096, 13696),
        _served(16, 4096, 4096),
        _served(16, 4096, 13696),
    ),
    work=_work,
)
