"""Whether a kernel computes what its reference says; none that does not is worth timing."""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve_kernels.operation import Arguments, Case, Maker, Operation
from glmserve_kernels.tiles import Tiles
from kernel_arguments import fit, is_for, tensors

TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 5e-3}
"""Relative Frobenius error, for cases that do not name their own."""


def check_operation(
    operation: Operation, chip: str, device: torch.device, tiles: Tiles
) -> list[str]:
    """What is wrong with it in its small and odd cases."""
    return [
        f"{operation.name} {case.name} {str(dtype).removeprefix('torch.')}: {wrong}"
        for case in operation.cases
        if is_for(case, operation, chip)
        for dtype in case.dtypes
        for wrong in check_case(operation, case, dtype, case.make(Maker(device, dtype)), tiles)
    ]


def check_served(operation: Operation, case: Case, maker: Maker, tiles: Tiles) -> list[str]:
    """What is wrong at full size.

    Nothing is said if the reference's float64 numbers do not fit, nor of outputs that are integers:
    of a hundred thousand choices, float32 may rightly make one otherwise.
    """
    arguments = fit(operation.name, case.make(maker), tiles)
    outputs = (arguments[name] for name in operation.outputs)
    if not all(out.is_floating_point() for out in outputs if out is not None):
        return []
    try:
        return check_case(operation, case, maker.dtype, arguments, tiles)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return []


def check_case(
    operation: Operation, case: Case, dtype: torch.dtype, arguments: Arguments, tiles: Tiles
) -> list[str]:
    """What is wrong with what one launch leaves behind, in outputs and in everything else."""
    before = {name: value.clone() for name, value in tensors(arguments).items()}
    expected = operation.reference(**{**arguments, **before})
    operation.launch(**arguments, tiles=tiles)
    tolerance = (case.tolerance or TOLERANCE)[dtype]
    faults = {
        name: _fault(arguments[name], want, before[name], tolerance)
        for name, want in expected.items()
    }
    wrong = [f"{name} {fault}" for name, fault in faults.items() if fault]
    wrong += [f"{name} is no output" for name in expected.keys() - set(operation.outputs)]
    for name in before.keys() - expected.keys() - set(operation.scratch):
        if not same_bits(arguments[name], before[name]):
            wrong.append(f"{name} is changed")
    return wrong


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Also where both are NaN."""
    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.itemsize]
    return torch.equal(a.contiguous().view(integer), b.contiguous().view(integer))


def _fault(got: Tensor, want: Tensor, before: Tensor, tolerance: float) -> str | None:
    """Close where `want` is a number, the same as before where it is NaN."""
    written = ~want.isnan()
    if not same_bits(got[~written], before[~written]):
        return "is written where it must not be"
    numbers, exact = got[written].double(), want[written]
    if not numbers.isfinite().all():
        return "has numbers that are not finite"
    if not exact.any():
        return "is not 0" if numbers.any() else None
    error = float((numbers - exact).norm() / exact.norm())
    return f"is off by {error:.1e}, more than {tolerance:.0e}" if error > tolerance else None
