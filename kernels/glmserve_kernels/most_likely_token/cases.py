"""Shapes for most_likely_token."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from glmserve_kernels.most_likely_token.kernel import most_likely_token
from glmserve_kernels.most_likely_token.reference import most_likely_token as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work

_EXACT = {torch.float32: 0.0}


def make_logits(make: Maker, rows: int, size: int, padding: int = 0) -> Tensor:
    """Multiples of 1/16, so that many are equal; `padding` more numbers lie between two rows."""
    logits = make.normal(rows, size + padding, scale=50.0).round() / 16
    return logits[:, :size]


def make_bits(make: Maker, *shape: int) -> Tensor:
    """Words of random bits."""
    return make.integers(-(2**31), 2**31, *shape, dtype=torch.int32)


def _make(
    make: Maker, *, rows: int, size: int, padding: int = 0, odd: tuple[float, ...] = ()
) -> Arguments:
    """Each of the last rows holds one of the `odd` numbers, at a place that is allowed."""
    logits = make_logits(make, rows, size, padding)
    allowed = make_bits(make, -(-size // 32))
    if odd:
        logits[-len(odd) :, size // 2] = make.given(odd, torch.float32)
        allowed[size // 2 // 32] = -1
    return {
        "logits": logits,
        "allowed": allowed,
        "out": make.poisoned(rows, dtype=torch.int64),
    }


def _case(rows: int, size: int, **details: object) -> Case:
    make = partial(_make, rows=rows, size=size, **details)  # type: ignore[arg-type]
    return Case(f"{rows}x{size}", make, (torch.float32,), _EXACT)


def _served(rows: int, size: int) -> Case:
    expects = {"sm_80": ("LDG128",), "sm_90": ("LDG128",), "gfx942": ("LOAD128",)}
    make = partial(_make, rows=rows, size=size)
    return Case(f"{rows}x{size}", make, (torch.float32,), expects=expects)


def _work(logits: Tensor, **_: Tensor) -> Work:
    return Work(bytes=logits.numel() * logits.element_size())


OPERATION = Operation(
    name="most_likely_token",
    launch=most_likely_token,
    reference=reference,
    outputs=("out",),
    cases=(
        _case(1, 3),
        _case(6, 70, odd=(float("nan"), float("inf"), float("-inf"))),
        _case(3, 9001, padding=3),
    ),
    served=(_served(64, 65024), _served(1, 65024), _served(64, 151552)),
    work=_work,
)
