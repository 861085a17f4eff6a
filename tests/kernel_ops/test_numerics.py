"""Every kernel on every case against its reference in float64.

Outputs are full of NaN before; a reference says NaN where nothing may be written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from glmserve_kernels.operation import Arguments, Case, Maker, Operation
from glmserve_kernels.registry import NAMES, load_all
from glmserve_kernels.tiles import CHIPS, closest_chip, load_tiles

TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 5e-3}
"""Relative Frobenius error."""

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
    if not INTERPRETED and closest_chip(chip) not in (case.chips or operation.chips):
        pytest.skip(f"not made for {chip}")
    arguments = case.make(Maker(device, dtype))
    before = {name: value.clone() for name, value in tensors(arguments).items()}
    expected = operation.reference(**{**arguments, **before})
    operation.launch(**arguments, tiles=load_tiles(operation.name, chip))
    tolerance = (case.tolerance or TOLERANCE)[dtype]
    for name in expected:
        assert name in operation.outputs
        check(name, arguments[name], expected[name], before[name], tolerance)
    for name, value in tensors(arguments).items():
        if name not in (*expected, *operation.scratch):
            assert same_bits(value, before[name]), f"{name} was changed"


def tensors(arguments: Arguments) -> dict[str, Tensor]:
    return {name: value for name, value in arguments.items() if isinstance(value, Tensor)}


def check(name: str, got: Tensor, want: Tensor, before: Tensor, tolerance: float) -> None:
    """Close where `want` is a number, the same bits as before where it is NaN."""
    written = ~want.isnan()
    assert same_bits(got[~written], before[~written]), f"{name}: written where it must not be"
    numbers, exact = got[written].double(), want[written]
    assert numbers.isfinite().all(), f"{name}: {int((~numbers.isfinite()).sum())} not finite"
    error = float((numbers - exact).norm() / exact.norm().clamp(min=1e-30)) if exact.any() else 0.0
    assert error <= tolerance, f"{name}: relative error {error:.2e} > {tolerance:.0e}"
    if not exact.any():
        assert not numbers.any()


def same_bits(a: Tensor, b: Tensor) -> bool:
    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return torch.equal(a.contiguous().view(integer), b.contiguous().view(integer))


@pytest.mark.parametrize("name", NAMES)
def test_chips_have_the_same_shape_classes(name: str) -> None:
    classes = {chip: set(load_tiles(name, chip)) for chip in CHIPS}
    assert len({frozenset(value) for value in classes.values()}) == 1, classes
