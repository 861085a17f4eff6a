"""Shapes for quantized_matmul."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.quantized_matmul.kernel import count_splits, quantized_matmul
from glmserve_kernels.quantized_matmul.packing import pack_int4
from glmserve_kernels.quantized_matmul.reference import quantized_matmul as reference
from glmserve_kernels.tiles import load_tiles


def make_weight(
    make: Maker, outputs: int, width: int, *, bits: int, group: int, scale_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Codes and scales of a weight; products with normally distributed numbers are about 1."""
    largest = 127 if bits == 8 else 7
    codes = make.integers(-largest - 1, largest + 1, outputs, width, dtype=torch.int8)
    size = 2.0 / (largest * width**0.5)
    scales = make.normal(width // group, outputs, dtype=scale_dtype, scale=size).T
    return codes if bits == 8 else pack_int4(codes), scales


def make_arguments(
    make: Maker,
    *,
    rows: int,
    outputs: int,
    width: int,
    bits: int,
    group: int | None = None,
    scale_dtype: torch.dtype = torch.float32,
    bias: bool = False,
    splits: int | None = 1,
    padding: int = 0,
) -> Arguments:
    """`group`: None is K. `splits`: None is as many as sm_90 wants. `padding` more columns than are
    used lie between two rows of each tensor, except of the weight."""
    weight, scales = make_weight(
        make, outputs, width, bits=bits, group=group or width, scale_dtype=scale_dtype
    )
    if splits is None:
        splits = count_splits(rows, weight, width, load_tiles("quantized_matmul", "sm_90"))
    return {
        "x": make.normal(rows, width + padding)[:, :width],
        "weight": weight,
        "scales": scales,
        "bias": make.normal(outputs) if bias else None,
        "out": make.poisoned(rows, outputs + padding)[:, :outputs],
        "partial": make.poisoned(splits, rows, outputs, dtype=torch.float32)
        if splits > 1
        else None,
        "arrivals": make.given([0] * rows * outputs, torch.int32) if splits > 1 else None,
    }


def _case(rows: int, outputs: int, width: int, bits: int, **details: Any) -> Case:
    make = partial(make_arguments, rows=rows, outputs=outputs, width=width, bits=bits, **details)
    return Case(_name(rows, outputs, width, bits, **details), make)


def _name(rows: int, outputs: int, width: int, bits: int, **details: Any) -> str:
    notes = "".join(
        f"+{key}{value if type(value) is int else ''}" for key, value in details.items() if value
    )
    return f"int{bits}-{rows}x{outputs}x{width}{notes}"


def _served(rows: int, outputs: int, width: int, bits: int, **details: Any) -> Case:
    make = partial(
        make_arguments, rows=rows, outputs=outputs, width=width, bits=bits, splits=None, **details
    )
    return Case(
        _name(rows, outputs, width, bits, **details),
        make,
        dtypes=(torch.bfloat16, torch.float16),
        expects={
            "sm_80": ("HMMA", "LDGSTS128"),
            "sm_90": ("HMMA" if rows <= 16 else "HGMMA", "LDGSTS128"),
            "gfx942": ("MFMA",) if details.get("group") == 32 else ("MFMA", "LOAD128"),
        },
    )


def _work(x: Tensor, weight: Tensor, scales: Tensor, out: Tensor, **_: Any) -> Work:
    numbers = (x.numel() + out.numel()) * x.element_size()
    parameters = weight.numel() * weight.element_size() + scales.numel() * scales.element_size()
    return Work(bytes=numbers + parameters, flops=2 * x.shape[0] * x.shape[1] * weight.shape[0])


OPERATION = Operation(
    name="quantized_matmul",
    launch=quantized_matmul,
    reference=reference,
    outputs=("out",),
    scratch=("partial", "arrivals"),
    cases=(
        _case(1, 16, 32, 8),
        _case(1, 16, 32, 4, bias=True),
        _case(3, 80, 288, 8, bias=True, splits=3, padding=8),
        _case(3, 80, 544, 4, bias=True, splits=3, padding=8),
        _case(17, 48, 256, 8, group=128, scale_dtype=torch.float16, splits=2),
        _case(17, 48, 256, 4, group=128, bias=True),
        _case(2, 48, 160, 8, group=32, scale_dtype=torch.bfloat16),
        _case(2, 48, 160, 4, group=32),
        _case(3, 48, 128, 4, group=64, scale_dtype=torch.float16),
        _case(65, 144, 192, 8, group=64, bias=True, padding=8),
        _case(130, 16, 64, 4),
    ),
    served=(
        _served(1, 4608, 4096, 8, bias=True),
        _served(16, 4096, 13696, 8),
        _served(64, 27392, 4096, 8),
        _served(128, 4096, 13696, 8),
        _served(1, 4608, 4096, 8, group=128, bias=True),
        _served(128, 4608, 4096, 8, group=128, bias=True),
        _served(1, 4608, 4096, 4, bias=True),
        _served(16, 4096, 13696, 4),
        _served(64, 27392, 4096, 4),
        _served(128, 4096, 13696, 4),
        _served(1, 4608, 4096, 4, group=128, bias=True),
        _served(64, 4096, 13696, 4, group=128),
        _served(128, 4608, 4096, 4, group=128, bias=True),
        _served(1, 4608, 4096, 4, group=32, bias=True),
    ),
    work=_work,
)
