"""Products with quantised weights by the vendor's calls, simulated, against exact ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glmserve.config import WeightBits
from glmserve.ops.ascend import linear
from glmserve.ops.ascend.ascend_ops import FusedAscendOps
from glmserve.ops.ascend.chip import Chip, chip_named
from glmserve.ops.ascend.linear import PerTokenLinear, SplitLinear, WeightOnlyLinear, pack_quantized
from glmserve.ops.attention.kv_store import ExactStore
from glmserve.ops.attention.sdpa import SdpaAttention
from glmserve.ops.linear.quantized import QuantizedWeight, quantize
from support.ascend_simulator.library import register

A2, OLDER = chip_named("Ascend910B3"), chip_named("Ascend310P3")


def weight_of(rows: int, columns: int, bits: WeightBits, group: int | None) -> QuantizedWeight:
    return quantize(torch.randn(rows, columns), bits, group)


def multiply(weight: QuantizedWeight, x: Tensor, bias: Tensor | None, chip: Chip = A2) -> Tensor:
    """As a model does, packed or not."""
    register()
    device = torch.device("cpu")
    attention = SdpaAttention(2, x.dtype, device, 128, ExactStore(x.dtype))
    ops = FusedAscendOps(attention, x.dtype, chip)
    return ops.linear(x, ops.pack_linear(weight), bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("bits", "group", "rows"), [(8, None, 40), (4, None, 40), (4, 32, 40), (4, 64, 48), (4, 16, 40)]
)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("chip", [A2, OLDER], ids=["A2", "310"])
def test_weights_alone(
    dtype: torch.dtype, bits: WeightBits, group: int | None, rows: int, with_bias: bool, chip: Chip
) -> None:
    if dtype not in chip.dtypes:
        pytest.skip("this chip does not compute in bfloat16")
    torch.manual_seed(0)
    weight = weight_of(rows, 128, bits, group)
    x, bias = torch.randn(5, 128).to(dtype), torch.randn(rows).to(dtype) if with_bias else None
    want = x.double() @ weight.dequantized(torch.float32).double().T
    want += 0 if bias is None else bias.double()
    error = (multiply(weight, x, bias, chip).double() - want).norm() / want.norm()
    assert error < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_rows(dtype: torch.dtype) -> None:
    """A row does not depend on the others, and its rounding is that of 8 bits."""
    torch.manual_seed(0)
    plain = weight_of(40, 96, 8, None)
    weight = QuantizedWeight(plain.codes, plain.scales, 8, activation_bits=8)
    x, bias = (torch.randn(6, 96) * torch.logspace(-2, 2, 6)[:, None]).to(dtype), torch.randn(40)
    bias = bias.to(dtype)
    got = multiply(weight, x, bias)
    assert torch.equal(got[2:3], multiply(weight, x[2:3], bias))
    want = x.double() @ weight.dequantized(torch.float32).double().T + bias.double()
    errors = (got.double() - want).norm(dim=1) / want.norm(dim=1)
    assert float(errors.max()) < 0.02


class TestChoice:
    def kind(self, weight: QuantizedWeight, chip: Chip = A2) -> type:
        register()
        return type(pack_quantized(weight, torch.float16, chip))

    def test_by_format_and_chip(self) -> None:
        rounding = QuantizedWeight(torch.zeros(8, 64).to(torch.int8), torch.ones(8, 1), 8, 8)
        assert self.kind(weight_of(8, 64, 8, None)) is WeightOnlyLinear
        assert self.kind(weight_of(8, 64, 8, None), OLDER) is WeightOnlyLinear
        assert self.kind(weight_of(8, 64, 4, 32)) is WeightOnlyLinear
        assert self.kind(weight_of(8, 64, 4, 32), OLDER) is type(None)
        assert self.kind(weight_of(8, 64, 4, 16)) is type(None)
        assert self.kind(weight_of(9, 64, 4, 32)) is type(None)
        assert self.kind(rounding) is PerTokenLinear
        assert pack_quantized(rounding, torch.float32, A2) is None

    def test_more_outputs_than_a_call_takes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As output layers have."""
        monkeypatch.setattr(linear, "_MOST_COLUMNS", 100)
        monkeypatch.setattr(linear, "_ROWS_AT_ONCE", 64)
        torch.manual_seed(0)
        weight, x, bias = weight_of(200, 64, 8, None), torch.randn(3, 64).half(), torch.randn(200)
        assert self.kind(weight) is SplitLinear
        want = x.float() @ weight.dequantized(torch.float32).T + bias
        got = multiply(weight, x, bias.half()).float()
        torch.testing.assert_close(got, want, rtol=0, atol=0.05)
