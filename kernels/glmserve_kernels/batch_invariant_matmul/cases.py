"""Shapes for batch_invariant_matmul."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.batch_invariant_matmul.kernel import batch_invariant_matmul, count_chunks
from glmserve_kernels.batch_invariant_matmul.reference import batch_invariant_matmul as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.tiles import load_tiles


def make_arguments(
    make: Maker, *, rows: int, outputs: int, width: int, bias: bool, split: bool, padding: int = 0
) -> Arguments:
    """`padding` more columns than are used lie between two rows of each tensor."""
    chunks = count_chunks(width, load_tiles("batch_invariant_matmul", "sm_80"))
    return {
        "x": make.normal(rows, width + padding)[:, :width],
        "weight": make.normal(outputs, width + padding, scale=width**-0.5)[:, :width],
        "bias": make.normal(outputs) if bias else None,
        "out": make.poisoned(rows, outputs + padding)[:, :outputs],
        "partial": make.poisoned(chunks, rows, outputs, dtype=torch.float32) if split else None,
        "arrivals": make.given([0] * rows * outputs, torch.int32) if split else None,
    }


def _case(rows: int, outputs: int, width: int, **details: Any) -> Case:
    options = {"bias": True, "split": True, **details}
    make = partial(make_arguments, rows=rows, outputs=outputs, width=width, **options)
    return Case(_name(rows, outputs, width, **options), make)


def _name(rows: int, outputs: int, width: int, bias: bool, split: bool, padding: int = 0) -> str:
    notes = f"{'+bias' * bias}{'+split' * split}{'+padding' * (padding > 0)}"
    return f"{rows}x{outputs}x{width}{notes}"


def _served(rows: int, outputs: int, width: int, bias: bool = False) -> Case:
    options: dict[str, Any] = {"bias": bias, "split": rows <= 64}
    product = {"sm_80": ("HMMA", "LDGSTS128"), "sm_90": ("HGMMA", "LDGSTS128"), "gfx942": ("MFMA",)}
    return Case(
        _name(rows, outputs, width, **options),
        partial(make_arguments, rows=rows, outputs=outputs, width=width, **options),
        dtypes=(torch.bfloat16, torch.float16),
        expects=product,
    )


def _work(x: Tensor, weight: Tensor, out: Tensor, **_: Any) -> Work:
    numbers = x.numel() + weight.numel() + out.numel()
    return Work(bytes=numbers * x.element_size(), flops=2 * x.shape[0] * weight.numel())


OPERATION = Operation(
    name="batch_invariant_matmul",
    launch=batch_invariant_matmul,
    reference=reference,
    outputs=("out",),
    scratch=("partial", "arrivals"),
    cases=(
        _case(1, 1, 1),
        _case(3, 16, 32, bias=False),
        _case(65, 130, 100, split=False, padding=3),
        _case(2, 48, 1100, padding=8),
        _case(2, 48, 1100, bias=False, split=False),
    ),
    served=(
        _served(1, 4608, 4096, bias=True),
        _served(1, 4096, 13696),
        _served(64, 4608, 4096, bias=True),
        _served(2048, 4608, 4096, bias=True),
        _served(2048, 27392, 4096),
        _served(2048, 65024, 4096),
    ),
    work=_work,
)
