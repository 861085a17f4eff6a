"""Shapes for matmul_add."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.few_rows.cases import (
    PRODUCT,
    Codes,
    make_scratch,
    make_weight,
    suffix,
    weight_bytes,
)
from glmserve_kernels.few_rows.plan import split_outputs
from glmserve_kernels.matmul_add.kernel import count_parts, matmul_add
from glmserve_kernels.matmul_add.reference import matmul_add as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.tiles import CHIPS, load_tiles


def make_arguments(
    make: Maker,
    *,
    rows: int,
    outputs: int,
    width: int,
    codes: Codes | None = None,
    bias: bool = False,
    padding: int = 0,
) -> Arguments:
    """`padding` more columns than are used lie between two rows of each matrix of numbers."""
    weight = make_weight(make, outputs, width, codes, padding)
    tables = [load_tiles("matmul_add", chip) for chip in CHIPS]
    return {
        "x": make.normal(rows, width + padding)[:, :width],
        **weight,
        "bias": make.normal(outputs) if bias else None,
        "residual": make.normal(rows, outputs + padding, scale=3.0)[:, :outputs],
        "squares": make.poisoned(rows, count_parts(outputs), dtype=torch.float32),
        **make_scratch(make, [split_outputs(rows, **weight, table=table) for table in tables]),
    }


def _case(rows: int, outputs: int, width: int, codes: Codes | None = None, **details: Any) -> Case:
    shape: dict[str, Any] = {"rows": rows, "outputs": outputs, "width": width, "codes": codes}
    name = f"{rows}x{outputs}x{width}{suffix(codes, **details)}"
    return Case(name, partial(make_arguments, **shape, **details))


def _served(rows: int, outputs: int, width: int, codes: Codes | None = None) -> Case:
    return dataclasses.replace(
        _case(rows, outputs, width, codes),
        dtypes=(torch.bfloat16, torch.float16),
        expects=PRODUCT,
    )


def _work(x: Tensor, weight: Tensor, scales: Tensor | None, residual: Tensor, **_: Any) -> Work:
    return Work(
        bytes=x.nbytes + weight_bytes(weight, scales) + 2 * residual.nbytes,
        flops=2 * x.numel() * len(weight),
    )


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
        _case(3, 80, 2048, Codes(8), bias=True),
        _case(2, 48, 1120, Codes(4), padding=8),
        _case(2, 48, 2048, Codes(4, 128)),
        _case(2, 48, 160, Codes(8, 32)),
        _case(17, 70, 200, bias=True, padding=3),
        _case(33, 66, 288, Codes(8), bias=True),
        _case(64, 72, 1100),
        _case(64, 40, 320, Codes(4, 32)),
    ),
    served=(
        _served(1, 4096, 4096),
        _served(1, 4096, 13696),
        _served(16, 4096, 4096),
        _served(16, 4096, 13696),
        _served(16, 4096, 13696, Codes(8)),
        _served(16, 4096, 13696, Codes(4)),
        _served(16, 4096, 4096, Codes(4, 128)),
        _served(16, 4096, 4096, Codes(4, 32)),
        _served(32, 4096, 13696),
        _served(32, 4096, 13696, Codes(8)),
        _served(32, 4096, 13696, Codes(4)),
        _served(64, 4096, 4096),
        _served(64, 4096, 13696),
        _served(64, 4096, 13696, Codes(8)),
        _served(64, 4096, 13696, Codes(4)),
        _served(64, 4096, 4096, Codes(4, 128)),
        _served(64, 4096, 4096, Codes(4, 32)),
    ),
    work=_work,
)
