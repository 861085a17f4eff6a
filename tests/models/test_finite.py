"""Numbers that are not finite are found wherever they are."""

from __future__ import annotations

import pytest
import torch

from glmserve.models.finite import all_finite

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_finite_numbers(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    assert all_finite(torch.tensor([[0.0, -largest], [largest, 1.0]], dtype=dtype))
    assert all_finite(torch.zeros(0, 3, dtype=dtype))
    assert all_finite(torch.tensor(1.0, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("place", [0, 17, 99])
def test_others(dtype: torch.dtype, number: str, place: int) -> None:
    numbers = torch.ones(100, dtype=dtype)
    numbers[place] = float(number)
    assert not all_finite(numbers)
    assert not all_finite(numbers.view(10, 10).T)
