"""The plan of decodes counts on as many programs at a time as compiled kernels leave room for."""

from __future__ import annotations

import json

import pytest
from compiler import RECORDS
from occupancy import programs_per_multiprocessor

from glmserve_kernels.paged_decode.split_plan import programs_at_once
from glmserve_kernels.tiles import CHIPS, load_tiles

GLM = "32/2x128-block64-"
"""The heads of ChatGLM2 to GLM-4-9B, in blocks of 64."""


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("bits", [16, 8])
def test_decodes(chip: str, bits: int) -> None:
    """For the shape and dtype of which the fewest fit."""
    kernels = json.loads((RECORDS / "paged_decode.json").read_text())["chips"][chip]
    tiles = load_tiles("paged_decode", chip)[f"{bits}-bit cache"]
    found = [
        programs_per_multiprocessor(kernel, tiles["num_warps"], chip)
        for name, kernel in kernels.items()
        if name.startswith(GLM)
        and name.endswith("/paged_decode")
        and (("int8" in name) or ("fp8" in name)) == (bits == 8)
    ]
    assert programs_at_once(tiles, 1) == min(found)


def test_limits_of_the_chip() -> None:
    """By shared memory, by registers, by warps."""
    small = {"shared": 0, "registers": 32}
    assert programs_per_multiprocessor(small, 4, "sm_90") == 16
    assert programs_per_multiprocessor({**small, "registers": 96}, 4, "sm_90") == 5
    assert programs_per_multiprocessor({**small, "shared": 71680}, 4, "sm_90") == 3
    assert programs_per_multiprocessor({**small, "shared": 71680}, 4, "sm_80") == 2
    assert programs_per_multiprocessor({**small, "registers": 151}, 4, "gfx942") == 3
