"""Shapes for adjust_logits."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from glmserve_kernels.adjust_logits.kernel import adjust_logits
from glmserve_kernels.adjust_logits.reference import adjust_logits as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work


def _make(make: Maker, *, rows: int, size: int, entries: int, padding: int = 0) -> Arguments:
    """`padding` more numbers than are used lie between two rows of logits."""
    places = range(entries) if make.is_meta else make.permutation(rows * size)[:entries]
    numbers = {name: make.normal(entries) for name in ("repetition", "subtract", "bias")}
    return {
        "logits": make.normal(rows, size + padding, scale=5.0)[:, :size],
        "rows": make.given([place // size for place in places], torch.int32),
        "ids": make.given([place % size for place in places], torch.int32),
        **numbers,
        "repetition": numbers["repetition"].exp(),
    }


def _case(rows: int, size: int, entries: int, padding: int = 0) -> Case:
    make = partial(_make, rows=rows, size=size, entries=entries, padding=padding)
    return Case(f"{entries} of {rows}x{size}", make, dtypes=(torch.float32,))


def _work(ids: Tensor, **_: Any) -> Work:
    return Work(bytes=len(ids) * (5 * 4 + 2 * 4))


OPERATION = Operation(
    name="adjust_logits",
    launch=adjust_logits,
    reference=reference,
    outputs=("logits",),
    cases=(_case(1, 1, 1), _case(3, 7, 5, padding=2), _case(5, 100, 500), _case(2, 300, 129)),
    served=(_case(64, 65024, 10_000), _case(64, 151552, 10_000)),
    work=_work,
)
