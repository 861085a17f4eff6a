"""4-bit codes in memory, and what a shape class promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glmserve_kernels.operation import Maker
from glmserve_kernels.quantized_matmul.cases import make_arguments, make_weight
from glmserve_kernels.quantized_matmul.kernel import count_splits, quantized_matmul
from glmserve_kernels.quantized_matmul.packing import pack_int4, unpack_int4
from glmserve_kernels.tiles import CHIPS, load_tiles


def test_codes_come_back_from_their_packing() -> None:
    codes = torch.randint(-8, 8, (5, 96), generator=torch.Generator().manual_seed(0))
    codes = codes.to(torch.int8)
    packed = pack_int4(codes)
    assert packed.shape == (5, 24)
    assert packed.dtype == torch.int16
    assert torch.equal(unpack_int4(packed), codes)


def test_a_word_holds_every_eighth_column_of_its_chunk() -> None:
    codes = torch.zeros(1, 64, dtype=torch.int8)
    codes[0, 32 + 3 :: 8] = torch.tensor([1, -2, 3, -8])
    words = pack_int4(codes)[0].tolist()
    assert words.pop(8 + 3) & 0xFFFF == 0x83E1
    assert not any(words)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("group", [None, 128, 32])
def test_a_row_has_the_same_bits_throughout_its_shape_class(
    device: torch.device, chip: str, bits: int, group: int | None
) -> None:
    tiles = load_tiles("quantized_matmul", chip)
    arguments = make_arguments(
        Maker(device, torch.bfloat16),
        rows=16,
        outputs=80,
        width=384,
        bits=bits,
        group=group,
        bias=True,
        splits=2,
    )

    arrivals = arguments["arrivals"]

    def product(x: Tensor) -> Tensor:
        # Unrounded: float32 shows every difference.
        out = torch.full((len(x), 80), float("nan"), dtype=torch.float32, device=x.device)
        partial = out.new_full((2, *out.shape), float("nan"))
        quantized_matmul(**{**arguments, "x": x, "out": out, "partial": partial}, tiles=tiles)
        assert not arrivals.any(), "the next launch would count from there"
        return out

    x = arguments["x"]
    expected = product(x)
    for first, last in ((0, 1), (15, 16), (3, 10)):
        assert torch.equal(product(x[first:last]), expected[first:last]), (first, last)
    company = torch.full_like(x, float("nan"))
    company[7] = x[2]
    assert torch.equal(product(company)[7], expected[2])


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("bits", [8, 4])
def test_splits_depend_on_the_shape_class_and_none_is_empty(chip: str, bits: int) -> None:
    tiles = load_tiles("quantized_matmul", chip)
    make = Maker(torch.device("meta"), torch.bfloat16)
    for outputs, width in ((4608, 4096), (4096, 13696), (65024, 4096), (16, 32), (48, 1056)):
        weight, _ = make_weight(
            make, outputs, width, bits=bits, group=width, scale_dtype=torch.float32
        )
        for rows in ((1, 2, 16), (17, 64), (65, 128, 2048)):
            (splits,) = {count_splits(row, weight, width, tiles) for row in rows}
            name = f"int{bits}-m{16 if rows[0] == 1 else 64 if rows[0] == 17 else 128}"
            k_tiles = -(-width // tiles[name]["BLOCK_K"])
            assert 1 <= splits <= max(1, k_tiles // 4)
            assert (splits - 1) * -(-k_tiles // splits) < k_tiles
