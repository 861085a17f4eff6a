"""A row's product has the same bits for every number of rows, at every place, in any company."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from glmserve_kernels.few_rows.cases import Codes, make_weight
from glmserve_kernels.few_rows.plan import (
    ROWS,
    is_programmatic,
    launch_constants,
    most_partials,
    most_rows,
    split_columns,
    split_outputs,
)
from glmserve_kernels.matmul_add.cases import make_arguments as make_add
from glmserve_kernels.norm_matmul_rope.cases import Shape
from glmserve_kernels.norm_matmul_rope.cases import make_arguments as make_rope
from glmserve_kernels.norm_matmul_rope.kernel import head_tile, split_heads
from glmserve_kernels.norm_matmul_silu.cases import make_arguments as make_silu
from glmserve_kernels.operation import Arguments, Maker
from glmserve_kernels.registry import load
from glmserve_kernels.tiles import CHIPS, load_tiles
from support.exhaustive import exhaustive
from support.slow import slow

MAKE: dict[str, Callable[[Maker, Codes | None], Arguments]] = {
    "matmul_add": lambda make, codes: make_add(
        make, rows=ROWS, outputs=80, width=1120, codes=codes, bias=True
    ),
    "norm_matmul_silu": lambda make, codes: make_silu(
        make, rows=ROWS, ffn=40, width=1120, codes=codes, bias=True
    ),
    "norm_matmul_rope": lambda make, codes: make_rope(
        make, shape=Shape(ROWS, 1120, 2, 1, 32, 16, 16), codes=codes, bias=True
    ),
}
"""Arguments for a weight of numbers or of codes."""
CHOSEN = ([0], [63], [9, 2, 5], [4, 4, 11, 10, 1], [*range(40, 57)], [*range(33)][::-1])
"""Rows of a step, of each class: up to 16, up to 32, and more."""
BY_ROW = {"x", "squares", "residual", "positions", "slots", "queries", "out"}
"""Arguments with a row for each row of x."""


def launch(name: str, arguments: Arguments, rows: list[int], chip: str) -> dict[str, Tensor]:
    """The outputs with a row for each of these rows of the arguments; cached keys as well."""
    chosen = {
        key: value[rows].contiguous() if key in BY_ROW else value
        for key, value in arguments.items()
    }
    operation = load(name)
    operation.launch(**chosen, tiles=load_tiles(name, chip))
    return {key: chosen[key] for key in operation.outputs if chosen[key] is not None}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(
    ("dtype", "codes"),
    [
        slow(torch.float32, None),
        (torch.bfloat16, None),
        slow(torch.bfloat16, Codes(4)),
        exhaustive(torch.float16, Codes(8)),
        exhaustive(torch.bfloat16, Codes(8, 32)),
        exhaustive(torch.bfloat16, Codes(4, 160)),
    ],
    ids=str,
)
def test_a_row_has_the_same_bits_in_every_batch(
    device: torch.device, chip: str, name: str, dtype: torch.dtype, codes: Codes | None
) -> None:
    """Whichever tile its step has, and wherever it lies in it."""

    def outputs(rows: list[int]) -> dict[str, Tensor]:
        return launch(name, MAKE[name](Maker(device, dtype), codes), rows, chip)

    every = outputs([*range(ROWS)])
    for rows in CHOSEN:
        some = outputs(rows)
        for key in BY_ROW & some.keys():
            assert torch.equal(some[key], every[key][rows]), (key, rows)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("rows", [[0, 1, 3, 7], [3, *range(32, 49)], [*range(40)]], ids=len)
def test_a_row_does_not_feel_its_neighbours(
    device: torch.device, chip: str, name: str, rows: list[int]
) -> None:
    alone = launch(name, MAKE[name](Maker(device, torch.bfloat16), None), [3], chip)
    arguments = MAKE[name](Maker(device, torch.bfloat16), None)
    neighbours = [row for row in range(ROWS) if row != 3]
    arguments["x"][neighbours] = float("nan")
    together = launch(name, arguments, rows, chip)
    for key in BY_ROW & alone.keys():
        assert torch.equal(together[key][rows.index(3)], alone[key][0]), key


@pytest.mark.parametrize("name", MAKE)
def test_scratch_is_no_larger_than_announced(name: str) -> None:
    make = Maker(torch.device("meta"), torch.bfloat16)
    for chip, rows, outputs in product(CHIPS, (1, 17, 33), (32, 96, 128, 4608, 27392)):
        table = load_tiles(name, chip)
        weight = make_weight(make, outputs, 13696, None)
        if name == "norm_matmul_rope":
            plan = split_heads(rows, **weight, head_dim=32, tiles=table)
            most = most_partials(rows, table, head_tile(32))
        else:
            plan = split_outputs(rows, **weight, table=table)
            most = most_partials(rows, table)
        assert plan.partials <= most


@pytest.mark.parametrize("chip", CHIPS)
def test_every_program_has_columns(chip: str) -> None:
    make = Maker(torch.device("meta"), torch.bfloat16)
    for name in MAKE:
        table = load_tiles(name, chip)
        for width, codes in product((128, 1056, 4096, 13696), (None, Codes(8), Codes(4, 32))):
            weight = make_weight(make, 1, width, codes)
            for rows, tiles in product((1, 17, 64), (1, 36, 64, 214, 1000)):
                plan = split_columns(rows, **weight, tiles=tiles, block_n=64, table=table)
                block_k = launch_constants(rows, **weight, table=table)["BLOCK_K"]
                columns = -(-width // block_k)
                assert (plan.splits - 1) * plan.k_tiles < columns <= plan.splits * plan.k_tiles
    assert most_rows(chip) <= ROWS
    assert not is_programmatic(chip) or chip == "sm_90"
