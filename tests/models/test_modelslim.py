"""Checkpoints of ModelSlim: what is read, by every device's operations, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.shard import Stage
from glmserve.devices.cpu import CpuDevice
from glmserve.errors import CheckpointError, OptionError
from glmserve.model_config import read_model_config
from glmserve.models.parameters import weight_bytes
from glmserve.ops.ascend.linear import StaticLinear
from glmserve.ops.attention.kv_store import ExactStore
from glmserve.ops.attention.sdpa import SdpaAttention
from glmserve.ops.base import AnyOps, Ops
from glmserve.ops.collectives import Collectives
from glmserve.ops.cpu.native_ops import NativeCpuOps
from glmserve.ops.cpu.torch_ops import TorchCpuOps
from glmserve.ops.linear.static import StaticWeight
from support.ascend_simulator.library import register
from support.native import native_library
from support.paged_model import Operations, PagedModel
from support.ranks import on_ranks, on_stages
from support.tiny_models import BASE, Config, random_weights, write_checkpoint

CPU = torch.device("cpu")
LAYER = "transformer.encoder.layers.{}."
LINEAR = ("self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h")
DOWN = "mlp.dense_4h_to_h"
PROMPT = [1, 5, 2, 40, 7, 7, 30, 21, 3]


def static_parts(weight: Tensor, bias: Tensor | None, half: bool) -> dict[str, Tensor]:
    """As the tool's documents say, with inputs from -12 to 16."""
    scale, offset = 28 / 255, round(-128 + 12 * 255 / 28)
    weight_scale = weight.abs().amax(1) / 127
    codes = (weight / weight_scale[:, None]).round()
    deq_scale = scale * weight_scale
    exact = torch.zeros(len(weight)) if bias is None else bias
    quant_bias = (exact / deq_scale - offset * codes.sum(1)).round()
    return {
        "weight": codes.to(torch.int8),
        "input_scale": torch.tensor([scale]),
        "input_offset": torch.tensor([float(offset)]),
        "quant_bias": quant_bias.to(torch.int32),
        "deq_scale": deq_scale.view(torch.int32).long() if half else deq_scale,
    }


def rows_parts(weight: Tensor) -> dict[str, Tensor]:
    """Weights alone, in columns as newer versions of the tool have them."""
    scales = weight.abs().amax(1, keepdim=True) / 127
    codes = (weight / scales).round().to(torch.int8)
    return {"weight": codes, "weight_scale": scales, "weight_offset": torch.zeros_like(scales)}


def write_modelslim(
    folder: Path,
    config: Config = BASE,
    *,
    kind: str = "W8A8",
    half: bool = True,
    smooth: bool = False,
    changed: dict[str, Any] | None = None,
) -> tuple[dict[str, Tensor], Path]:
    """A quantised checkpoint but for the last layer's `down`; the float weights it is made of."""
    weights = random_weights(config)
    stored, kinds = dict(weights), dict.fromkeys(weights, "FLOAT")
    for i in range(config["num_layers"]):
        for module in (*LINEAR, *([] if i == config["num_layers"] - 1 else [DOWN])):
            name = LAYER.format(i) + module
            weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
            parts = static_parts(weight, bias, half) if kind == "W8A8" else rows_parts(weight)
            stored |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
            kinds |= {f"{name}.{part}": kind for part in parts}
        if smooth:
            norm = LAYER.format(i) + "input_layernorm"
            stored[f"{norm}.module.weight"] = weights[f"{norm}.weight"].clone()
            stored[f"{norm}.module.bias"] = torch.full_like(weights[f"{norm}.weight"], 0.25)
            stored[f"{norm}.weight"] = torch.full_like(weights[f"{norm}.weight"], torch.nan)
            kinds |= {f"{norm}.module.weight": kind, f"{norm}.module.bias": kind}
    suffix = kind.lower()
    folder.mkdir(exist_ok=True)
    save_file(stored, folder / f"quant_model_weight_{suffix}.safetensors")
    description = {"model_quant_type": kind, **kinds, **(changed or {})}
    (folder / f"quant_model_description_{suffix}.json").write_text(json.dumps(description))
    (folder / "config.json").write_text(json.dumps({**config, "quantize": suffix}))
    return weights, folder


@pytest.mark.parametrize("operations", ["plain", "packed", "native", "ascend"])
@pytest.mark.parametrize("kind", ["W8A8", "W8A16", "W8A8_DYNAMIC"])
def test_near_the_float_model(tmp_path: Path, operations: Operations, kind: str) -> None:
    if kind == "W8A8_DYNAMIC" and operations in ("plain", "packed"):
        pytest.skip("devices refuse it, see below")
    weights, folder = write_modelslim(tmp_path / "quantised", kind=kind)
    exact = PagedModel(write_checkpoint(tmp_path, BASE, weights), operations="plain")
    model = PagedModel(folder, operations=operations)
    got, want = model.logits(PROMPT), exact.logits(PROMPT)
    assert 1e-4 < np.linalg.norm(got - want) / np.linalg.norm(want) < 0.13
    if operations != "ascend" and kind == "W8A8":  # rounding does not depend on the kernels
        np.testing.assert_allclose(
            got, PagedModel(folder, operations="plain").logits(PROMPT), atol=2e-2
        )


@pytest.mark.parametrize("half", [True, False])
def test_scales_as_bits_and_as_numbers(tmp_path: Path, half: bool) -> None:
    _, other = write_modelslim(tmp_path / "other", half=not half)
    _, folder = write_modelslim(tmp_path / "one", half=half)
    one, two = (PagedModel(f, operations="plain").logits(PROMPT) for f in (folder, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("grouped", [True, False])
def test_smoothed_norms(tmp_path: Path, grouped: bool) -> None:
    """The norm's own weight is not read, and its bias is added before the input is rounded; where
    q, k and v of a head are stored side by side as well."""
    config = {**BASE, "multi_query_attention": grouped}
    weights, folder = write_modelslim(tmp_path / "quantised", config, smooth=True)
    other = PagedModel(write_checkpoint(tmp_path, config, weights), operations="plain")
    for i in range(2):
        qkv = weights[LAYER.format(i) + "self_attention.query_key_value.weight"]
        bias = weights[LAYER.format(i) + "self_attention.query_key_value.bias"]
        bias += qkv.sum(1) * 0.25  # what the norm's bias comes to
    exact = PagedModel(write_checkpoint(tmp_path, config, weights), operations="plain")
    got = PagedModel(folder, operations="plain").logits(PROMPT)
    without, with_bias = (np.linalg.norm(got - model.logits(PROMPT)) for model in (other, exact))
    assert with_bias < 0.13 * np.linalg.norm(got)
    assert with_bias < without / 2


def make_ops(kind: str, dtype: torch.dtype) -> AnyOps:
    attention = SdpaAttention(2, dtype, CPU, 16, ExactStore(dtype))
    if kind == "native":
        return NativeCpuOps(attention, dtype, native_library())
    return (TorchCpuOps if kind == "packed" else Ops)(attention, *([dtype] * (kind == "packed")))


@pytest.mark.parametrize("kind", ["plain", "packed", "native", "ascend"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_formula(kind: str, dtype: torch.dtype) -> None:
    """Codes of the input are exact, so all that is left is the rounding of the result."""
    if kind == "native" and dtype == torch.float16:
        pytest.skip("native kernels do not know float16")
    torch.manual_seed(0)
    x = (torch.randn(5, 96) * 3).to(dtype)
    weight = StaticWeight(
        codes=torch.randint(-127, 128, (40, 96)).to(torch.int8),
        deq_scale=torch.rand(40) * 1e-3,
        quant_bias=torch.randint(-10000, 10000, (40,)).to(torch.int32),
        input_scale=0.03125,  # so that no dtype rounds a quotient to the other side
        input_offset=-17.0,
        shift=torch.full((96,), 0.5),
    )
    codes = ((x.double() + 0.5) / 0.03125 - 17).round().clamp(-128, 127)
    want = (codes @ weight.codes.double().T + weight.quant_bias) * weight.deq_scale.double()
    if kind == "ascend":
        register()
        got = StaticLinear(weight, dtype)(x, None)
    else:
        ops = make_ops(kind, dtype)
        got = ops.linear(x, ops.pack_linear(weight))
    assert got.dtype == dtype
    error = (got.double() - want).abs().max() / want.abs().max()
    assert error < {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]


def test_memory(tmp_path: Path) -> None:
    """A byte for each number of a quantised weight, and two or four for the others."""
    _, folder = write_modelslim(tmp_path)
    file = folder / "quant_model_weight_w8a8.safetensors"
    stored = load_file(file)
    codes = sum(t.numel() for t in stored.values() if t.dtype == torch.int8)
    config = read_model_config(folder)
    assert config.stored_bits == 8
    floats = weight_bytes(config, 2, None) - codes
    assert 0 < floats < 2 * sum(t.numel() for t in stored.values() if t.dtype != torch.int8) + 4000


def test_dummy_weights_take_the_same_memory(tmp_path: Path) -> None:
    """From config.json and the description alone, as for measuring."""
    _, folder = write_modelslim(tmp_path)
    options = {"dtype": "float32", "kv_cache_tokens": 256}
    infos = [
        CpuDevice()
        .create_runner(
            RunnerConfig(checkpoint=str(folder), load_format=kind, **options), report_nothing
        )
        .info
        for kind in ("auto", "dummy")
    ]
    assert infos[0].weight_bytes == infos[1].weight_bytes


def test_newer_names(tmp_path: Path) -> None:
    """Without the format in the names of files, and nothing in config.json."""
    _, folder = write_modelslim(tmp_path)
    want = PagedModel(folder, operations="plain").logits(PROMPT)
    (folder / "quant_model_weight_w8a8.safetensors").rename(
        folder / "quant_model_weights.safetensors"
    )
    (folder / "quant_model_description_w8a8.json").rename(folder / "quant_model_description.json")
    (folder / "config.json").write_text(json.dumps(BASE))
    np.testing.assert_array_equal(PagedModel(folder, operations="plain").logits(PROMPT), want)


QKV = LAYER.format(0) + "self_attention.query_key_value"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({f"{QKV}.weight": "W4A16"}, r"query_key_value\.weight: W4A16 is not read; glmserve reads"),
        ({f"{QKV}.weight": None}, "expected its kind, found None"),
        ({"kv_cache_type": "C8"}, "kv_cache_type is 'C8', which glmserve does not read"),
        ({"fa_quant_type": "FAQuant"}, "fa_quant_type"),
        ({"metadata": {"quarot": {}}}, "metadata describes transformations"),
    ],
)
def test_descriptions_that_are_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    _, folder = write_modelslim(tmp_path, changed=changed)
    with pytest.raises(CheckpointError, match=message):
        read_model_config(folder)


class TestRefused:
    def test_no_description(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({**BASE, "quantize": "w8a8"}))
        with pytest.raises(CheckpointError, match="no quant_model_description_w8a8"):
            read_model_config(tmp_path)

    def test_no_weights(self, tmp_path: Path) -> None:
        _, folder = write_modelslim(tmp_path)
        (folder / "quant_model_weight_w8a8.safetensors").unlink()
        with pytest.raises(CheckpointError, match="there are no weights for it"):
            read_model_config(folder)

    def test_two_descriptions(self, tmp_path: Path) -> None:
        _, folder = write_modelslim(tmp_path)
        write_modelslim(tmp_path, kind="W8A16")
        with pytest.raises(CheckpointError, match="keep one of them"):
            read_model_config(folder)

    def test_other_formats(self, tmp_path: Path) -> None:
        _, folder = write_modelslim(tmp_path)
        (folder / "config.json").write_text(json.dumps({**BASE, "quantization_bit": 8}))
        with pytest.raises(CheckpointError, match=r"quantization_bit in config\.json contra"):
            read_model_config(folder)

    def test_weights_with_an_offset(self, tmp_path: Path) -> None:
        _, folder = write_modelslim(tmp_path, kind="W8A16")
        file = folder / "quant_model_weight_w8a16.safetensors"
        stored = load_file(file)
        stored[f"{QKV}.weight_offset"] += 1
        save_file(stored, file)
        with pytest.raises(CheckpointError, match=r"layers\.0\.qkv: weight_offset is not 0"):
            PagedModel(folder, operations="plain")

    def test_smoothed_weights_alone(self, tmp_path: Path) -> None:
        _, folder = write_modelslim(tmp_path, kind="W8A16", smooth=True)
        with pytest.raises(CheckpointError, match=r"module\.bias of the norm before it is not 0"):
            PagedModel(folder, operations="plain")

    def test_residuals_behind_a_norm(self, tmp_path: Path) -> None:
        config = {**BASE, "apply_residual_connection_post_layernorm": True}
        _, folder = write_modelslim(tmp_path, config, smooth=True)
        with pytest.raises(CheckpointError, match="smoothed norms cannot be residuals"):
            read_model_config(folder)

    def test_smoothed_layer_norms(self, tmp_path: Path) -> None:
        _, folder = write_modelslim(tmp_path, {**BASE, "rmsnorm": False}, smooth=True)
        with pytest.raises(CheckpointError, match="rmsnorm is false"):
            read_model_config(folder)

    def test_a_tensor_that_belongs_to_nothing(self, tmp_path: Path) -> None:
        _, folder = write_modelslim(tmp_path)
        file = folder / "quant_model_weight_w8a8.safetensors"
        save_file({**load_file(file), f"{LAYER.format(9)}x.bias": torch.ones(1)}, file)
        with pytest.raises(CheckpointError, match=r"x\.bias: unexpected"):
            PagedModel(folder, operations="plain")

    def test_rows_rounded_without_kernels_for_it(self, tmp_path: Path) -> None:
        """Activations would stay as they are, and no error would show it."""
        _, folder = write_modelslim(tmp_path, kind="W8A8_DYNAMIC")
        config = RunnerConfig(checkpoint=str(folder), dtype="float32", cpu_kernels="torch")
        with pytest.raises(OptionError, match="W8A8_DYNAMIC in float32 needs glmserve's own CPU"):
            CpuDevice().create_runner(config, report_nothing)
        with pytest.raises(CheckpointError, match="is for CPUs and Ascend NPUs"):
            PagedModel(folder, operations="triton", dtype=torch.bfloat16)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("kind", ["W8A8", "W8A16", "W8A8_DYNAMIC"])
@pytest.mark.parametrize("grouped", [True, False])
def test_parts_of_ranks(tmp_path: Path, kind: str, size: int, grouped: bool) -> None:
    """Biases are in the first rank's sums only. Rows are rounded part by part."""
    config = {**BASE, "multi_query_attention": grouped}
    _, folder = write_modelslim(tmp_path, config, kind=kind, smooth=kind == "W8A8")

    def logits(collectives: Collectives) -> Any:
        return PagedModel(folder, operations="native", collectives=collectives).logits(PROMPT)

    (one,), several = on_ranks(1, logits), on_ranks(size, logits)
    for got in several:
        np.testing.assert_array_equal(got, several[0])
    if kind == "W8A8_DYNAMIC":
        assert np.linalg.norm(several[0] - one) / np.linalg.norm(one) < 0.1
    else:
        np.testing.assert_allclose(several[0], one, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["W8A8", "W8A16", "W8A8_DYNAMIC"])
def test_stages(tmp_path: Path, kind: str) -> None:
    """The same bits as one process. A smoothed norm's shift is in the stage of its layer."""
    _, folder = write_modelslim(tmp_path, kind=kind, smooth=kind == "W8A8")

    def logits(collectives: Collectives, stage: Stage) -> Any:
        model = PagedModel(folder, operations="native", collectives=collectives, stage=stage)
        return model.logits(PROMPT)

    (one,), (_, last) = on_stages(1, 1, logits), on_stages(2, 1, logits)
    np.testing.assert_array_equal(last, one)


@pytest.mark.parametrize("kind", ["W8A8", "W8A16", "W8A8_DYNAMIC"])
def test_sums_in_order(tmp_path: Path, kind: str) -> None:
    """The same bits on one, two and four ranks."""
    _, folder = write_modelslim(tmp_path, kind=kind)

    def logits(collectives: Collectives) -> Any:
        model = PagedModel(folder, operations="native", collectives=collectives, ordered=True)
        return model.logits(PROMPT)

    one, two, four = (on_ranks(size, logits)[0] for size in (1, 2, 4))
    np.testing.assert_array_equal(two, one)
    np.testing.assert_array_equal(four, one)
