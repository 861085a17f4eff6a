"""Each operation, and each override of it, against a definition in float64."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from glmserve.model_config import RopeConfig
from glmserve.ops.ascend.ascend_ops import AscendOps, FusedAscendOps
from glmserve.ops.attention.kv_store import ExactStore
from glmserve.ops.attention.sdpa import SdpaAttention
from glmserve.ops.base import AnyOps, Ops
from glmserve.ops.cpu.native_ops import NativeCpuOps
from glmserve.ops.cpu.torch_ops import TorchCpuOps
from support.ascend_simulator.device import simulated_chip
from support.ascend_simulator.library import register
from support.native import native_library

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=["torch", "cpu", "native", "ascend", "ascend fused"])
def ops(request: pytest.FixtureRequest) -> AnyOps:
    attention = SdpaAttention(2, torch.float32, CPU, 16, ExactStore(torch.float32))
    match request.param:
        case "torch":
            return Ops(attention)
        case "cpu":
            return TorchCpuOps(attention, torch.float32)
        case "ascend":
            register()
            return AscendOps(attention, torch.float32, simulated_chip("Ascend310P3"))
        case "ascend fused":
            register()
            return FusedAscendOps(attention, torch.float32, simulated_chip("Ascend910B3"))
    if "dtype" in request.fixturenames and request.getfixturevalue("dtype") == torch.float16:
        pytest.skip("native kernels compute in float32 and bfloat16")
    return NativeCpuOps(attention, torch.float32, native_library())


def rotations(table: Tensor) -> np.ndarray:
    """Complex [length, R/2], also of a table of cosines and sines [length, 2, R]."""
    if not table.is_complex():
        table = torch.complex(*table[..., ::2].unbind(1))
    return table.numpy()


def assert_rounded_once(got: Tensor, want: Tensor) -> None:
    """`got` is at most one unit in the last place from the float64 result."""
    assert got.dtype != torch.float64
    unit = torch.finfo(got.dtype).eps
    torch.testing.assert_close(got.double(), want, rtol=1.01 * unit, atol=8 * 1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5])
class TestNorms:
    def test_rms_norm(self, ops: Ops, dtype: torch.dtype, rows: int) -> None:
        x, weight = torch.randn(rows, 96).to(dtype) * 3, torch.randn(96).to(dtype)
        wide = x.double()
        want = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
        assert_rounded_once(ops.rms_norm(x, weight, 1e-5), want)

    def test_layer_norm(self, ops: Ops, dtype: torch.dtype, rows: int) -> None:
        x = torch.randn(rows, 96).to(dtype) * 3 + 1
        weight, bias = torch.randn(2, 96).to(dtype)
        wide = x.double() - x.double().mean(-1, keepdim=True)
        scaled = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        want = scaled * weight.double() + bias.double()
        got = ops.layer_norm(x, weight, bias, 1e-5)
        torch.testing.assert_close(
            got.double(), want, rtol=2 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 16, 70])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear(ops: AnyOps, dtype: torch.dtype, rows: int, with_bias: bool) -> None:
    x = torch.randn(rows, 48).to(dtype)
    weight = (torch.randn(40, 48) / 7).to(dtype)
    bias = torch.randn(40).to(dtype) if with_bias else None
    want = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    with torch.inference_mode():
        got = ops.linear(x, ops.pack_linear(weight.clone()), bias)
    assert got.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(got.double(), want, rtol=2 * eps, atol=8 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_and_mul(ops: AnyOps, dtype: torch.dtype) -> None:
    x = torch.randn(3, 20).to(dtype)
    gate, up = x.double().chunk(2, dim=-1)
    got = ops.silu_and_mul(x.clone())
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        got.double(), gate * torch.sigmoid(gate) * up, rtol=2 * eps, atol=eps
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu(ops: AnyOps, dtype: torch.dtype) -> None:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"""
    x = (3 * torch.randn(3, 20)).to(dtype)
    wide = x.double()
    want = 0.5 * wide * (1 + torch.tanh((2 / math.pi) ** 0.5 * (wide + 0.044715 * wide**3)))
    torch.testing.assert_close(
        ops.gelu(x).double(), want, rtol=2 * torch.finfo(dtype).eps, atol=1e-6
    )


class TestRope:
    ROPE = RopeConfig(dim=8, base=10000.0, position_divisor=4.0)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_adjacent_pairs_of_the_first_dims(self, ops: Ops, dtype: torch.dtype) -> None:
        heads = torch.randn(3, 5, 20).to(dtype)
        positions = torch.tensor([0, 7, 100])
        want = heads.double()
        for t, position in enumerate(positions.tolist()):
            for i in range(0, 8, 2):
                angle = position / 4.0 / 10000.0 ** (i / 8)
                a, b = want[t, :, i].clone(), want[t, :, i + 1].clone()
                want[t, :, i] = a * math.cos(angle) - b * math.sin(angle)
                want[t, :, i + 1] = a * math.sin(angle) + b * math.cos(angle)
        untouched = heads[..., 8:].clone()
        ops.rope(heads, ops.rope_rows(ops.rope_table(self.ROPE, 128, CPU), positions))
        assert torch.equal(heads[..., 8:], untouched)
        torch.testing.assert_close(
            heads.double(), want, rtol=1.01 * torch.finfo(dtype).eps, atol=1e-5
        )

    def test_two_positions_turn_one_part_each(self, ops: Ops) -> None:
        rope = dataclasses.replace(self.ROPE, axes=2)
        table = ops.rope_table(rope, 128, CPU)
        positions = torch.tensor([[0, 7, 100], [0, 1, 2]])
        heads = torch.randn(3, 5, 20)
        want = heads.clone()
        for part, own in ((want[..., :8], positions[0]), (want[..., 8:16], positions[1])):
            turned = part.contiguous()
            ops.rope(turned, ops.rope_rows(table, own))
            part.copy_(turned)
        ops.rope(heads, ops.rope_rows(table, positions))
        torch.testing.assert_close(heads, want, rtol=0, atol=1e-6)

    def test_rounded_frequencies(self, ops: Ops) -> None:
        rope = RopeConfig(dim=64, base=10000.0, position_divisor=1.0, rounded_frequencies=True)
        table = rotations(ops.rope_table(rope, 2048, CPU))
        frequencies = 10000.0 ** -(np.arange(0, 64, 2) / 64)
        rounded = np.exp(1j * 2047 * frequencies.astype(np.float16).astype(np.float64))
        assert np.abs(table[-1] - rounded).max() < 1e-3
        assert np.abs(table[-1] - np.exp(1j * 2047 * frequencies)).max() > 0.1

    def test_far_positions(self, ops: Ops) -> None:
        """Angles are float32: half precision would be off by more than 1 here."""
        rope = RopeConfig(dim=64, base=5_000_000.0, position_divisor=1.0)
        table = rotations(ops.rope_table(rope, 131072, CPU))[-1]
        angles = 131071 / 5_000_000.0 ** (np.arange(0, 64, 2) / 64)
        assert np.abs(table - np.exp(1j * angles)).max() < 0.02


class TestArgmax:
    def test_first_of_equals(self, ops: Ops) -> None:
        logits = torch.tensor([[1.0, 3.0, 3.0], [5.0, 5.0, 0.0]])
        assert ops.argmax(logits) == ([1, 0], [3.0, 5.0])

    def test_nan_shows(self, ops: Ops) -> None:
        _, values = ops.argmax(torch.tensor([[1.0, float("nan"), 3.0], [1.0, 2.0, 3.0]]))
        assert math.isnan(values[0])
        assert values[1] == 3.0

    def test_part_of_the_columns(self, ops: Ops) -> None:
        logits = torch.tensor([[1.0, 2.0, 9.0], [2.0, 1.0, 9.0]])
        assert ops.argmax(logits[:, :2]) == ([1, 0], [2.0, 2.0])
