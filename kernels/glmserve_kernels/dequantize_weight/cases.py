"""Shapes for dequantize_weight."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.dequantize_weight.kernel import dequantize_weight
from glmserve_kernels.dequantize_weight.reference import dequantize_weight as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.quantized_matmul.cases import make_weight


def _make(
    make: Maker,
    *,
    outputs: int,
    width: int,
    bits: int,
    group: int,
    scale_dtype: torch.dtype = torch.float32,
    padding: int = 0,
) -> Arguments:
    """`padding` more columns than are used lie between two rows of `out`."""
    weight, scales = make_weight(
        make, outputs, width, bits=bits, group=group, scale_dtype=scale_dtype
    )
    out = make.poisoned(outputs, width + padding)[:, :width]
    return {"weight": weight, "scales": scales, "out": out}


def _case(outputs: int, width: int, bits: int, group: int, **details: Any) -> Case:
    make = partial(_make, outputs=outputs, width=width, bits=bits, group=group, **details)
    return Case(f"int{bits}-{outputs}x{width}-{group}", make)


def _served(outputs: int, width: int, bits: int, group: int) -> Case:
    make = partial(_make, outputs=outputs, width=width, bits=bits, group=group)
    return Case(
        f"int{bits}-{outputs}x{width}-{group}",
        make,
        dtypes=(torch.bfloat16, torch.float16),
        expects={
            "sm_80": ("LDG128", "STG128"),
            "sm_90": ("LDG128", "STG128"),
            "gfx942": ("LOAD128", "STORE128"),
        },
    )


def _work(weight: Tensor, scales: Tensor, out: Tensor) -> Work:
    tensors = (weight, scales, out)
    return Work(bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors))


OPERATION = Operation(
    name="dequantize_weight",
    launch=dequantize_weight,
    reference=reference,
    outputs=("out",),
    cases=(
        _case(1, 32, 8, 32),
        _case(3, 288, 4, 288, padding=8),
        _case(19, 320, 8, 64, scale_dtype=torch.bfloat16),
        _case(19, 320, 4, 32, scale_dtype=torch.float16),
    ),
    served=(
        _served(27392, 4096, 8, 4096),
        _served(4096, 13696, 8, 128),
        _served(27392, 4096, 4, 4096),
        _served(4096, 13696, 4, 128),
    ),
    work=_work,
)
