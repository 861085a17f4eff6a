"""Shapes for add_lora."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glmserve_kernels.add_lora.kernel import add_lora, count_parts, padded_rank
from glmserve_kernels.add_lora.reference import add_lora as reference
from glmserve_kernels.add_lora.row_plan import plan_tiles
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.tiles import load_tiles


def _make(
    make: Maker,
    *,
    slots: Sequence[int],
    ranks: Sequence[int],
    outputs: int,
    width: int,
    padding: int = 0,
    more_tiles: int = 0,
) -> Arguments:
    """`slots`: of each row, -1 for none. `ranks`: of each slot. `padding` more columns than are
    used lie between two rows of x and y. `more_tiles` of the plan are unused."""
    tiles = load_tiles("add_lora", "sm_80")
    most = padded_rank(max(*ranks, 1), tiles)
    given = np.array(slots)
    order = np.argsort(given, kind="stable")[(given < 0).sum() :]
    found, starts = np.unique(given[order], return_index=True)
    starts = np.append(starts, len(order))
    used = plan_tiles(found, starts)
    rows = len(slots)
    return {
        "x": make.normal(rows, width + padding)[:, :width],
        "y": make.normal(rows, outputs + padding)[:, :outputs],
        "a": _padded(make.normal(len(ranks), most, width, scale=width**-0.5), ranks, 1),
        "b": _padded(make.normal(len(ranks), outputs, most, scale=most**-0.5), ranks, 2),
        "bias": make.normal(len(ranks), outputs),
        "ranks": make.given(list(ranks), torch.int32),
        "order": make.given(order.tolist(), torch.int32),
        "row_tiles": make.given(
            plan_tiles(found, starts, len(used) + more_tiles).tolist(), torch.int32
        ),
        "inner": make.poisoned(count_parts(width, tiles), len(order), most, dtype=torch.float32),
    }


def _padded(numbers: Tensor, ranks: Sequence[int], dim: int) -> Tensor:
    """Zeros from each slot's rank on."""
    for slot, rank in enumerate(ranks):
        numbers[slot].narrow(dim - 1, max(rank, 0), numbers.shape[dim] - max(rank, 0)).zero_()
    return numbers


def _case(name: str, **details: Any) -> Case:
    return Case(name, partial(_make, **details))


def _served(name: str, rows: int, adapters: int, outputs: int, width: int, rank: int) -> Case:
    slots = [row % adapters for row in range(rows)]
    return Case(
        name,
        partial(_make, slots=slots, ranks=[rank] * adapters, outputs=outputs, width=width),
        dtypes=(torch.bfloat16, torch.float16),
        expects={
            "sm_80": ("HMMA", "LDGSTS128"),
            "sm_90": ("HMMA", "LDGSTS128"),
            "gfx942": ("MFMA", "LOAD128"),
        },
    )


def _work(x: Tensor, y: Tensor, a: Tensor, b: Tensor, order: Tensor, **_: Any) -> Work:
    rows, rank = order.shape[0], a.shape[1]
    numbers = rows * (x.shape[1] + 2 * y.shape[1]) + a.numel() + b.numel()
    flops = 2 * rows * rank * (x.shape[1] + y.shape[1])
    return Work(bytes=numbers * x.element_size(), flops=flops)


OPERATION = Operation(
    name="add_lora",
    launch=add_lora,
    reference=reference,
    outputs=("y",),
    scratch=("inner",),
    cases=(
        _case("one row", slots=[0], ranks=[1], outputs=1, width=1),
        _case(
            "mixed", slots=[2, -1, 0, 2, 1], ranks=[3, 16, 21], outputs=130, width=100, padding=3
        ),
        _case("only a bias", slots=[0, 1, -1], ranks=[0, 2], outputs=20, width=32),
        _case("an empty slot", slots=[0, 1], ranks=[-1, 2], outputs=20, width=32, more_tiles=3),
        _case("whole tiles", slots=[0] * 33 + [1] * 16, ranks=[8, 8], outputs=48, width=600),
        _case("nobody", slots=[-1, -1], ranks=[4], outputs=16, width=16),
    ),
    served=(
        _served("16 rows of 8, 4608x4096 by 16", 16, 8, 4608, 4096, 16),
        _served("16 rows of 8, 4096x13696 by 64", 16, 8, 4096, 13696, 64),
        _served("2048 rows of 1, 27392x4096 by 16", 2048, 1, 27392, 4096, 16),
    ),
    work=_work,
)
