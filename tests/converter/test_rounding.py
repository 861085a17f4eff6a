"""Rounding at its edges."""

from __future__ import annotations

import pytest
import torch

from glmserve.config import WeightBits
from glmserve.converter.rounding import RoundedWeight, round_weight
from glmserve.ops.linear.quantized import QuantizedWeight


def numbers(rounded: RoundedWeight, bits: WeightBits) -> torch.Tensor:
    scales = rounded.scales.view(len(rounded.codes), -1)
    return QuantizedWeight(rounded.codes, scales, bits).dequantized(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, None), (4, 6)])
def test_error_and_argument(dtype: torch.dtype, bits: WeightBits, group_size: int | None) -> None:
    """More rows than are rounded at once; columns far apart in memory."""
    weight = torch.randn(12, 2050, generator=torch.Generator().manual_seed(1)).to(dtype).t()
    before = weight.clone()
    rounded = round_weight(weight, bits, group_size)
    assert torch.equal(weight, before)
    assert rounded.codes.shape == (2050, 12 * bits // 8)
    assert rounded.scales.shape == ((2050, 2) if group_size else (2050,))
    off = numbers(rounded, bits).double() - weight.double()
    assert rounded.relative_error == pytest.approx(
        (off.norm() / weight.double().norm()).item(), rel=1e-5
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_nothing_but_zeros(bits: WeightBits) -> None:
    rounded = round_weight(torch.zeros(3, 8), bits, None)
    assert not rounded.codes.any()
    assert not rounded.scales.any()
    assert rounded.relative_error == 0


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_numbers_near_the_smallest(bits: WeightBits, dtype: torch.dtype) -> None:
    """Scales of few bits: codes must not wrap around."""
    largest = torch.logspace(-9, -2, 200)[:, None]
    weight = (largest * torch.linspace(-1, 1, 16)).to(dtype)
    found = numbers(round_weight(weight, bits, None), bits)
    assert not (found * weight < 0).any()
    assert found.isfinite().all()
    steps = weight.float().abs().amax(-1, keepdim=True) / {8: 127, 4: 7}[bits] + 2**-24
    assert ((found - weight.float()).abs() <= 0.51 * steps * 130).all()
    ample = largest[:, 0] > 0.008  # scales that are normal numbers
    assert ((found - weight.float()).abs() <= 0.51 * steps)[ample].all()
