"""Products in float8: rounding, the same numbers on every device, and who refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from absent_server import Account
from torch import Tensor

from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.model_config import read_model_config
from glmserve.ops.base import AnyOps
from glmserve.ops.cpu.select_ops import make_cpu_ops, native_kernels
from glmserve.ops.gpu.select_ops import make_ops
from glmserve.ops.linear import float8_gpu
from glmserve.ops.linear.float8 import (
    Float8Weight,
    product_bytes,
    quantize_float8,
    round_rows,
    rounded,
)
from glmserve.ops.linear.float8_gpu import Float8Codes
from glmserve.ops.linear.segments import segments_of
from support.emulated_gpu import GPU

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Relative Frobenius error. A number that is rounded to bfloat16 once more moves by 2**-9 at
most."""


class TestRounding:
    def test_each_row_reaches_the_largest_number(self) -> None:
        codes, scales = round_rows(
            torch.randn(5, 64) * torch.tensor([[1e-6], [1], [3], [1e4], [0]])
        )
        assert codes.float().abs().amax(-1).tolist() == [448, 448, 448, 448, 0]
        assert scales[-1] == 0

    def test_off_by_a_sixteenth_of_the_number_at_most(self) -> None:
        """Three bits follow the leading one; the smallest numbers have a fixed step of 2**-9."""
        x = torch.randn(8, 1000)
        codes, scales = round_rows(x)
        error = (codes.float() * scales[:, None] - x).abs()
        allowed = torch.maximum(x.abs() / 16, scales[:, None] * 2**-10)
        assert (error <= allowed * 1.0001).all()

    def test_rows_are_rounded_alone(self) -> None:
        weight = torch.randn(3000, 700, dtype=torch.bfloat16)
        whole = quantize_float8(weight)
        parts = [quantize_float8(rows) for rows in weight.split(999)]
        assert torch.equal(whole.scales, torch.cat([part.scales for part in parts]))
        codes = torch.cat([part.codes.view(torch.uint8) for part in parts])
        assert torch.equal(whole.codes.view(torch.uint8), codes)

    def test_what_is_not_finite_stays_so(self) -> None:
        x = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
        assert rounded(x).isnan().tolist() == [[True, True], [False, False]]


def expected(x: Tensor, weight: Float8Weight, bias: Tensor | None) -> Tensor:
    codes, scales = round_rows(x)
    y = codes.double() @ weight.codes.double().t() * scales[:, None].double() * weight.scales
    return y if bias is None else y + bias.double()


def cpu_ops(folder: Path, dtype: torch.dtype, **options: Any) -> AnyOps:
    config = RunnerConfig(checkpoint="x", quantization="fp8", **options)
    return make_cpu_ops(config, read_model_config(folder), dtype, 16, native_kernels(config))


def gpu_ops(folder: Path, dtype: torch.dtype, **options: Any) -> AnyOps:
    config = RunnerConfig(checkpoint="x", quantization="fp8", **options)
    return make_ops(config, read_model_config(folder), dtype, 16, GPU)


@pytest.fixture
def folder(golden_models: Path) -> Path:
    return golden_models / "glm2_base"


class TestProducts:
    @pytest.mark.parametrize("rows", [1, 3, 17])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("width", [(48, 64), (31, 65)], ids=str)
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(gpu_ops, id="gpu"),
            pytest.param(cpu_ops, id="cpu"),
            pytest.param(lambda *of: cpu_ops(*of, cpu_kernels="torch"), id="torch"),
        ],
    )
    def test_the_codes_are_multiplied(
        self, folder: Path, make: Any, rows: int, dtype: torch.dtype, width: tuple[int, int]
    ) -> None:
        weight = quantize_float8(torch.randn(width))
        x, bias = torch.randn(rows, width[1]).to(dtype), torch.randn(width[0]).to(dtype)
        ops = make(folder, dtype)
        packed = ops.pack_linear(weight)
        for added in (None, bias):
            found = ops.linear(x, packed, added)
            assert found.dtype == dtype
            want = expected(x, weight, added)
            tolerance = TOLERANCE[torch.bfloat16 if make is gpu_ops else dtype]
            assert (found.double() - want).norm() <= tolerance * want.norm()

    def test_the_library_multiplies_where_it_can(self, folder: Path) -> None:
        ops = gpu_ops(folder, torch.bfloat16)
        assert isinstance(ops.pack_linear(quantize_float8(torch.randn(48, 64))), Float8Codes)
        assert isinstance(ops.pack_linear(quantize_float8(torch.randn(48, 65))), Float8Weight)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
    def test_memory_beside_rows_and_result(
        self, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Byte by byte, on tensors without contents."""
        monkeypatch.setattr(float8_gpu, "quantize_rows", lambda **_: None)
        with Account() as account, torch.device("meta"):
            codes = torch.empty(96, 64, dtype=torch.float8_e4m3fn)
            weight, x = Float8Codes(codes, torch.empty(1, 96)), torch.empty(17, 64, dtype=dtype)
            before = account.live
            result = float8_gpu.Float8Products("sm_90").linear(x, weight, None)
        beside = account.peak - before - result.nbytes
        assert beside == product_bytes(17, codes.shape, dtype)

    def test_segments_add_up(self) -> None:
        weight = quantize_float8(torch.randn(4, 64))
        parts = [part.dequantized(torch.float32) for part in segments_of(weight, 4)]  # type: ignore[union-attr]
        assert torch.equal(torch.cat(parts, dim=1), weight.dequantized(torch.float32))


class TestRefusals:
    @pytest.mark.parametrize(
        ("gpu", "options", "words"),
        [
            (GPU._replace(chip="sm_80", capability=(8, 0)), {}, "sm_80 does not compute with"),
            (GPU._replace(chip="gfx942", capability=None), {}, "gfx942 does not compute with"),
            (GPU, {"deterministic": True}, "depend on the number of rows"),
        ],
    )
    def test_gpus(self, folder: Path, gpu: Any, options: dict[str, Any], words: str) -> None:
        config = RunnerConfig(checkpoint="x", quantization="fp8", **options)
        with pytest.raises(OptionError, match=words):
            make_ops(config, read_model_config(folder), torch.bfloat16, 16, gpu)
