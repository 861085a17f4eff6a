"""Shapes for norm_matmul_silu."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.few_rows.cases import PRODUCT, make_normed, make_scratch
from glmserve_kernels.norm_matmul_silu.kernel import norm_matmul_silu, split_plan
from glmserve_kernels.norm_matmul_silu.reference import norm_matmul_silu as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.tiles import CHIPS, load_tiles


def make_arguments(
    make: Maker, *, rows: int, ffn: int, width: int, bias: bool = False, padding: int = 0
) -> Arguments:
    """`padding` more columns than are used lie between two rows of each matrix."""
    weight = make.normal(2 * ffn, width + padding, scale=width**-0.5)[:, :width]
    tables = [load_tiles("norm_matmul_silu", chip) for chip in CHIPS]
    return {
        **make_normed(make, rows, width, padding),
        "weight": weight,
        "bias": make.normal(2 * ffn) if bias else None,
        "out": make.poisoned(rows, ffn + padding)[:, :ffn],
        **make_scratch(make, [split_plan(weight, tiles) for tiles in tables]),
    }


def _case(rows: int, ffn: int, width: int, **details: Any) -> Case:
    name = f"{rows}x{ffn}x{width}" + "".join(f"+{key}" for key in details)
    return Case(name, partial(make_arguments, rows=rows, ffn=ffn, width=width, **details))


def _served(rows: int, ffn: int, width: int) -> Case:
    return Case(
        f"{rows}x{ffn}x{width}",
        partial(make_arguments, rows=rows, ffn=ffn, width=width),
        dtypes=(torch.bfloat16, torch.float16),
        expects=PRODUCT,
    )


def _work(x: Tensor, weight: Tensor, out: Tensor, **_: Any) -> Work:
    numbers = x.numel() + weight.numel() + out.numel()
    return Work(bytes=numbers * x.element_size(), flops=2 * x.shape[0] * weight.numel())


OPERATION = Operation(
    name="norm_matmul_silu",
    launch=norm_matmul_silu,
    reference=reference,
    outputs=("out",),
    scratch=("partial", "arrivals"),
    cases=(
        _case(1, 1, 1),
        _case(3, 64, 128),
        _case(16, 75, 300, bias=True, padding=3),
        _case(5, 40, 1100),
    ),
    served=(_served(1, 13696, 4096), _served(16, 13696, 4096)),
    work=_work,
)
