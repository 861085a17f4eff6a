"""Every kernel on every case against its reference in float64.

Outputs are full of NaN before; a reference says NaN where nothing may be written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from glmserve_kernels.operation import Case, Maker, Operation
from glmserve_kernels.registry import NAMES, load_all
from glmserve_kernels.tiles import CHIPS, load_tiles
from kernel_arguments import is_for
from kernel_check import check_case

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def cases() -> Iterator[object]:
    for operation in load_all():
        for case in operation.cases:
            for dtype in case.dtypes:
                name = f"{operation.name}-{case.name}-{str(dtype).removeprefix('torch.')}"
                yield pytest.param(operation, case, dtype, id=name)


@pytest.mark.parametrize(("operation", "case", "dtype"), list(cases()))
def test_numerics(
    operation: Operation, case: Case, dtype: torch.dtype, device: torch.device, chip: str
) -> None:
    if not INTERPRETED and not is_for(case, operation, chip):
        pytest.skip(f"not made for {chip}")
    arguments = case.make(Maker(device, dtype))
    tiles = load_tiles(operation.name, chip)
    assert not check_case(operation, case, dtype, arguments, tiles)


@pytest.mark.parametrize("name", NAMES)
def test_chips_have_the_same_shape_classes(name: str) -> None:
    classes = {chip: set(load_tiles(name, chip)) for chip in CHIPS}
    assert len({frozenset(value) for value in classes.values()}) == 1, classes
