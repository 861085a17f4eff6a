"""A row's product has the same bits for every number of rows, at every place, in any company."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from glmserve_kernels.few_rows.cases import Codes, make_weight
from glmserve_kernels.few_rows.plan import (
    is_programmatic,
    most_rows,
    split_columns,
    tile_constants,
)
from glmserve_kernels.matmul_add.cases import make_arguments as make_add
from glmserve_kernels.norm_matmul_rope.cases import Shape
from glmserve_kernels.norm_matmul_rope.cases import make_arguments as make_rope
from glmserve_kernels.norm_matmul_silu.cases import make_arguments as make_silu
from glmserve_kernels.operation import Arguments, Maker
from glmserve_kernels.registry import load
from glmserve_kernels.tiles import CHIPS, load_tiles

ROWS = 16
MAKE: dict[str, Callable[[Maker], Arguments]] = {
    "matmul_add": lambda make: make_add(make, rows=ROWS, outputs=80, width=1100, bias=True),
    "norm_matmul_silu": lambda make: make_silu(make, rows=ROWS, ffn=40, width=1120, codes=Codes(4)),
    "norm_matmul_rope": lambda make: make_rope(
        make, shape=Shape(ROWS, 1100, 2, 1, 32, 16, 16), bias=True
    ),
}
BY_ROW = ("x", "squares", "residual", "positions", "slots", "queries", "out")
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
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_row_has_the_same_bits_in_every_batch(
    device: torch.device, chip: str, name: str, dtype: torch.dtype
) -> None:
    every = launch(name, MAKE[name](Maker(device, dtype)), list(range(ROWS)), chip)
    for rows in ([0], [15], [9, 2, 5], [4, 4, 11, 10, 1]):
        some = launch(name, MAKE[name](Maker(device, dtype)), rows, chip)
        for key in set(BY_ROW) & some.keys():
            assert torch.equal(some[key], every[key][rows]), (key, rows)


@pytest.mark.parametrize("name", MAKE)
def test_a_row_does_not_feel_its_neighbours(device: torch.device, chip: str, name: str) -> None:
    alone = launch(name, MAKE[name](Maker(device, torch.bfloat16)), [3], chip)
    arguments = MAKE[name](Maker(device, torch.bfloat16))
    neighbours = [row for row in range(ROWS) if row != 3]
    arguments["x"][neighbours] = float("nan")
    together = launch(name, arguments, [0, 1, 3, 7], chip)
    for key in set(BY_ROW) & alone.keys():
        assert torch.equal(together[key][2], alone[key][0]), key


@pytest.mark.parametrize("chip", CHIPS)
def test_every_program_has_columns(chip: str) -> None:
    make = Maker(torch.device("meta"), torch.bfloat16)
    for name in MAKE:
        table = load_tiles(name, chip)
        for width, codes in product((128, 1056, 4096, 13696), (None, Codes(8), Codes(4, 32))):
            weight = make_weight(make, 1, width, codes)
            for tiles in (1, 36, 64, 214, 1000):
                plan = split_columns(**weight, tiles=tiles, block_n=64, table=table)
                columns = -(-width // tile_constants(**weight, table=table)["BLOCK_K"])
                assert (plan.splits - 1) * plan.k_tiles < columns <= plan.splits * plan.k_tiles
    assert most_rows(chip) <= 16
    assert not is_programmatic(chip) or chip == "sm_90"
