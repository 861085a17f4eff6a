"""Shapes for copy_blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from glmserve_kernels.copy_blocks.kernel import copy_blocks
from glmserve_kernels.copy_blocks.reference import copy_blocks as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work

_PAIRS = ((3, 0), (1, 4), (-1, -1), (3, 2))
_EXACT = dict.fromkeys((torch.float32, torch.bfloat16, torch.int8, torch.float8_e4m3fn), 0.0)


def _make(
    make: Maker,
    *,
    shape: tuple[int, ...],
    pairs: Sequence[tuple[int, int]] = _PAIRS,
    pair_dtype: torch.dtype = torch.int32,
    padding: int = 0,
) -> Arguments:
    """`padding` more numbers than a block has lie between two blocks."""
    blocks, *inner = shape
    size = torch.Size(inner).numel()
    flat = make.normal(blocks, size + padding, scale=20.0)
    return {
        "cache": torch.unflatten(flat[:, :size], 1, inner),
        "pairs": make.given(pairs, pair_dtype),
    }


def _served(shape: tuple[int, ...], pairs: int, dtype: torch.dtype) -> Case:
    chosen = tuple((2 * i, 2 * i + 1) for i in range(pairs))
    return Case(
        f"{pairs}x{'x'.join(map(str, shape[1:]))}",
        partial(_make, shape=shape, pairs=chosen),
        dtypes=(dtype,),
        expects={
            "sm_80": ("LDG128", "STG128"),
            "sm_90": ("LDG128", "STG128"),
            "gfx942": ("LOAD128", "STORE128"),
        },
    )


def _work(cache: Tensor, pairs: Tensor) -> Work:
    copied = cache[0].numel() * pairs.shape[0]
    return Work(bytes=2 * copied * cache.element_size())


OPERATION = Operation(
    name="copy_blocks",
    launch=copy_blocks,
    reference=reference,
    outputs=("cache",),
    cases=(
        Case("scales", partial(_make, shape=(6, 1, 16)), (torch.float32,), _EXACT),
        Case(
            "int64",
            partial(_make, shape=(6, 2, 16, 6), pair_dtype=torch.int64),
            tuple(_EXACT),
            _EXACT,
        ),
        Case("long+padding", partial(_make, shape=(6, 3, 700), padding=4), tuple(_EXACT), _EXACT),
    ),
    served=(
        _served((64, 2, 64, 128), 8, torch.bfloat16),
        _served((64, 2, 64, 128), 8, torch.int8),
        _served((64, 2, 64), 8, torch.float32),
    ),
    work=_work,
)
