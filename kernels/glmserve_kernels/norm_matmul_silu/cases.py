"""Shapes for norm_matmul_silu."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.few_rows.cases import (
    PRODUCT,
    Codes,
    make_normed,
    make_scratch,
    make_weight,
    suffix,
    weight_bytes,
)
from glmserve_kernels.few_rows.plan import split_outputs
from glmserve_kernels.norm_matmul_silu.kernel import norm_matmul_silu
from glmserve_kernels.norm_matmul_silu.reference import norm_matmul_silu as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.tiles import CHIPS, load_tiles


def make_arguments(
    make: Maker,
    *,
    rows: int,
    ffn: int,
    width: int,
    codes: Codes | None = None,
    bias: bool = False,
    padding: int = 0,
) -> Arguments:
    """`padding` more columns than are used lie between two rows of each matrix of numbers."""
    weight = make_weight(make, 2 * ffn, width, codes, padding)
    tables = [load_tiles("norm_matmul_silu", chip) for chip in CHIPS]
    return {
        **make_normed(make, rows, width, padding),
        **weight,
        "bias": make.normal(2 * ffn) if bias else None,
        "out": make.poisoned(rows, ffn + padding)[:, :ffn],
        **make_scratch(make, [split_outputs(rows, **weight, table=table) for table in tables]),
    }


def _case(rows: int, ffn: int, width: int, codes: Codes | None = None, **details: Any) -> Case:
    shape: dict[str, Any] = {"rows": rows, "ffn": ffn, "width": width, "codes": codes}
    name = f"{rows}x{ffn}x{width}{suffix(codes, **details)}"
    return Case(name, partial(make_arguments, **shape, **details))


def _served(rows: int, ffn: int, width: int, codes: Codes | None = None) -> Case:
    return dataclasses.replace(
        _case(rows, ffn, width, codes),
        dtypes=(torch.bfloat16, torch.float16),
        expects=PRODUCT,
    )


def _work(x: Tensor, weight: Tensor, scales: Tensor | None, out: Tensor, **_: Any) -> Work:
    return Work(
        bytes=x.nbytes + weight_bytes(weight, scales) + out.nbytes,
        flops=2 * x.numel() * len(weight),
    )


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
        _case(3, 40, 1120, Codes(8), bias=True),
        _case(2, 24, 1120, Codes(4), padding=8),
        _case(2, 24, 256, Codes(4, 128)),
        _case(2, 24, 160, Codes(4, 32)),
        _case(17, 35, 300, bias=True, padding=3),
        _case(33, 24, 288, Codes(4)),
        _case(64, 20, 600, Codes(8), bias=True),
        _case(64, 24, 384, Codes(4, 128)),
    ),
    served=(
        _served(1, 13696, 4096),
        _served(16, 13696, 4096),
        _served(16, 13696, 4096, Codes(8)),
        _served(16, 13696, 4096, Codes(4)),
        _served(16, 13696, 4096, Codes(4, 128)),
        _served(16, 13696, 4096, Codes(4, 32)),
        _served(32, 13696, 4096),
        _served(32, 13696, 4096, Codes(8)),
        _served(32, 13696, 4096, Codes(4)),
        _served(64, 13696, 4096),
        _served(64, 13696, 4096, Codes(8)),
        _served(64, 13696, 4096, Codes(4)),
        _served(64, 13696, 4096, Codes(4, 128)),
        _served(64, 13696, 4096, Codes(4, 32)),
    ),
    work=_work,
)
