"""torch's products with 8-bit weights, of widths that its kernel cannot read."""

from __future__ import annotations

import pytest
import torch

from glmserve.ops.linear.quantized import quantize
from glmserve.ops.linear.torch_cpu import Int8Linear


@pytest.mark.parametrize("columns", [8, 16, 20, 40, 48])
@pytest.mark.parametrize("rows", [1, 5, 70])
def test_any_number_of_columns(columns: int, rows: int) -> None:
    """torch's kernel ends the process if 16 does not divide the columns."""
    generator = torch.Generator().manual_seed(columns)
    weight = quantize(torch.randn(24, columns, generator=generator), 8)
    x = torch.randn(rows, columns, generator=generator).bfloat16()
    product = Int8Linear(weight)(x, None).float()
    expected = x.float() @ weight.dequantized(torch.float32).T
    torch.testing.assert_close(product, expected, rtol=0.02, atol=0.05)
