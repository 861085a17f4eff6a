"""Shapes and options for sample."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve_kernels.most_likely_token.cases import make_bits, make_logits
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.sample.kernel import sample
from glmserve_kernels.sample.reference import sample as reference


class _Options(NamedTuple):
    """Of one row."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    mask_row: int = -1


_ROWS = (
    _Options(temperature=0.0),
    _Options(temperature=0.0, mask_row=1),
    _Options(),
    _Options(temperature=0.3, mask_row=0),
    _Options(top_k=1),
    _Options(top_k=20, temperature=2.0),
    _Options(top_k=100_000, top_p=0.9),
    _Options(top_p=0.5, temperature=3.0),
    _Options(top_p=0.0),
    _Options(top_k=7, top_p=0.8, temperature=2.0, mask_row=1),
    _Options(min_p=0.5),
    _Options(top_k=40, top_p=0.95, min_p=0.05, temperature=1.5),
)
_DTYPES = {
    "temperature": torch.float32,
    "top_k": torch.int32,
    "top_p": torch.float64,
    "min_p": torch.float32,
    "mask_rows": torch.int32,
}


def _make(make: Maker, *, rows: int, size: int, padding: int = 0) -> Arguments:
    options = [_ROWS[i % len(_ROWS)] for i in range(rows)]
    words = -(-size // 32)
    columns = zip(_DTYPES.items(), zip(*options, strict=True), strict=True)
    return {
        "logits": make_logits(make, rows, size, padding),
        **{name: make.given(column, dtype) for (name, dtype), column in columns},
        "noise_key": make.integers(-(2**63), 2**63 - 1, rows, dtype=torch.int64),
        "masks": make_bits(make, 2, words),
        "allowed": make_bits(make, words),
        "out": make.poisoned(rows, dtype=torch.int64),
    }


def _case(rows: int, size: int, padding: int = 0) -> Case:
    make = partial(_make, rows=rows, size=size, padding=padding)
    return Case(f"{rows}x{size}", make, (torch.float32,), {torch.float32: 0.0})


def _served(rows: int, size: int) -> Case:
    expects = {
        "sm_80": ("LDG128", "STG128"),
        "sm_90": ("LDG128", "STG128"),
        "gfx942": ("LOAD128", "STORE128"),
    }
    make = partial(_make, rows=rows, size=size)
    return Case(f"{rows}x{size}", make, (torch.float32,), expects=expects)


def _work(logits: Tensor, **_: Tensor) -> Work:
    return Work(bytes=logits.numel() * logits.element_size())


OPERATION = Operation(
    name="sample",
    launch=sample,
    reference=reference,
    outputs=("out",),
    scratch=("logits",),
    cases=(_case(12, 6), _case(12, 700, padding=1), _case(12, 9001)),
    served=(
        _served(64, 65024),
        _served(1, 65024),
        _served(64, 151552),
        Case("4x500", partial(_make, rows=4, size=500), (torch.float32,)),
        Case("4x67", partial(_make, rows=4, size=67), (torch.float32,)),
    ),
    work=_work,
)
