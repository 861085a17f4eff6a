"""A row's product has the same bits in every batch, at every place, split or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glmserve_kernels.batch_invariant_matmul.cases import make_arguments
from glmserve_kernels.batch_invariant_matmul.kernel import batch_invariant_matmul, count_chunks
from glmserve_kernels.operation import Maker
from glmserve_kernels.tiles import Tiles, load_tiles

CHUNK = 128  # short ones, to cross many edges in little time
ROWS, OUTPUTS, WIDTH = 130, 20, 300  # three tiles of rows, three chunks


@pytest.fixture(scope="module")
def tiles(chip: str) -> Tiles:
    return {"any": {**load_tiles("batch_invariant_matmul", chip)["any"], "CHUNK": CHUNK}}


def product(x: Tensor, weight: Tensor, bias: Tensor, *, split: bool, tiles: Tiles) -> Tensor:
    # Unrounded: float32 shows every difference.
    out = torch.full((len(x), len(weight)), float("nan"), dtype=torch.float32, device=x.device)
    chunks = count_chunks(x.shape[1], tiles)
    partial = out.new_full((chunks, *out.shape), float("nan"))
    arrivals = torch.zeros(out.numel(), dtype=torch.int32, device=x.device)
    batch_invariant_matmul(
        x=x,
        weight=weight,
        bias=bias,
        out=out,
        partial=partial if split else None,
        arrivals=arrivals if split else None,
        tiles=tiles,
    )
    assert not arrivals.any(), "the next launch would count from there"
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_row_has_the_same_bits_in_every_batch(
    device: torch.device, tiles: Tiles, dtype: torch.dtype
) -> None:
    make = Maker(device, dtype)
    arguments = make_arguments(
        make, rows=ROWS, outputs=OUTPUTS, width=WIDTH, bias=True, split=False
    )
    x, weight, bias = (arguments[name] for name in ("x", "weight", "bias"))
    expected = product(x, weight, bias, split=False, tiles=tiles)
    assert count_chunks(WIDTH, tiles) == 3
    for first, last in ((0, 1), (129, 130), (63, 65), (1, 66), (2, 130)):
        for split in (False, True):
            got = product(x[first:last], weight, bias, split=split, tiles=tiles)
            assert torch.equal(got, expected[first:last]), (first, last, split)


def test_a_row_does_not_feel_its_neighbours(device: torch.device, tiles: Tiles) -> None:
    make = Maker(device, torch.bfloat16)
    arguments = make_arguments(make, rows=5, outputs=OUTPUTS, width=WIDTH, bias=True, split=False)
    x, weight, bias = (arguments[name] for name in ("x", "weight", "bias"))
    alone = product(x[2:3], weight, bias, split=True, tiles=tiles)
    company = torch.full_like(x, float("nan"))
    company[3] = x[2]
    for split in (False, True):
        got = product(company, weight, bias, split=split, tiles=tiles)
        assert torch.equal(got[3:4], alone), split
