"""Quantised weights: their codes, and products with them on a CPU."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest
import torch

from glmserve.config import WeightBits
from glmserve.ops.linear.quantized import QuantizedWeight, quantize
from glmserve.ops.linear.torch_cpu import (
    DequantizingLinear,
    Int4Linear,
    Int8Linear,
    W8A8Linear,
    pack_quantized,
)


class TestCodes:
    @pytest.mark.parametrize(("bits", "largest"), [(8, 127), (4, 7)])
    @pytest.mark.parametrize("group_size", [None, 32])
    def test_off_by_half_a_step_at_most(
        self, bits: WeightBits, largest: int, group_size: int | None
    ) -> None:
        weight = torch.randn(6, 96)
        quantized = quantize(weight, bits, group_size)
        assert quantized.scales.shape == (6, 96 // (group_size or 96))
        assert quantized.unpacked().abs().max() == largest
        steps = quantized.scales.repeat_interleave(group_size or 96, dim=1)
        error = (quantized.dequantized(torch.float32) - weight).abs()
        assert (error <= steps * 0.5001).all()

    @pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, None), (4, 32)])
    def test_many_rows_are_rounded_as_few(self, bits: WeightBits, group_size: int | None) -> None:
        """They are rounded some thousands at a time."""
        weight = torch.randn(5000, 64, dtype=torch.bfloat16)
        whole = quantize(weight, bits, group_size)
        parts = [quantize(rows, bits, group_size) for rows in weight.split(700)]
        assert torch.equal(whole.codes, torch.cat([part.codes for part in parts]))
        assert torch.equal(whole.scales, torch.cat([part.scales for part in parts]))

    def test_even_columns_are_in_the_high_half(self) -> None:
        codes = torch.tensor([[0x1F, -0x70]], dtype=torch.int8)  # 1, -1; -7, 0
        weight = QuantizedWeight(codes, torch.ones(1, 1), 4)
        assert weight.unpacked().tolist() == [[1, -1, -7, 0]]

    def test_zeros(self) -> None:
        quantized = quantize(torch.zeros(2, 8), 4)
        assert not quantized.dequantized(torch.float32).any()


def make(bits: WeightBits, activation_bits: Literal[8] | None, columns: int, group: int | None):  # type: ignore[no-untyped-def]
    weight = quantize(torch.randn(1104, columns) / columns**0.5, bits, group)
    return dataclasses.replace(weight, activation_bits=activation_bits)


@pytest.mark.parametrize("rows", [1, 5, 64, 65, 130])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    ("bits", "activation_bits", "columns", "group", "kind", "tolerance"),
    [
        (8, None, 192, None, Int8Linear, 5e-3),
        (8, 8, 192, None, W8A8Linear, 1.5e-2),
        (4, None, 192, 64, Int4Linear, 5e-3),
        (4, None, 192, None, Int4Linear, 5e-3),
        (4, None, 100, None, DequantizingLinear, 5e-3),
    ],
)
def test_products(
    rows: int,
    with_bias: bool,
    bits: WeightBits,
    activation_bits: Literal[8] | None,
    columns: int,
    group: int | None,
    kind: type,
    tolerance: float,
) -> None:
    """Held to the dequantised weight; rounded activations alone are off by some 0.9 %."""
    weight = make(bits, activation_bits, columns, group)
    x = torch.randn(rows, columns).bfloat16()
    bias = torch.randn(1104).bfloat16() if with_bias else None
    with torch.inference_mode():
        packed = pack_quantized(weight)
        assert isinstance(packed, kind)
        got = packed(x, bias).double()
    want = x.double() @ weight.dequantized(torch.float64).T + (0 if bias is None else bias.double())
    assert float((got - want).norm() / want.norm()) < tolerance


def test_w8a8_rows_do_not_see_each_other() -> None:
    weight = make(8, 8, 192, None)
    x = torch.randn(70, 192).bfloat16()
    with torch.inference_mode():
        packed = pack_quantized(weight)
        together = packed(x, None)
        for first, last in ((0, 1), (3, 5), (17, 40), (69, 70)):
            assert torch.equal(packed(x[first:last], None), together[first:last])
        assert not packed(torch.zeros(1, 192).bfloat16(), None).any()
