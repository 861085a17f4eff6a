"""`convert --layout modelslim`: what it writes, and what comes of it."""

from __future__ import annotations

import json
import os
from array import array
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from glmserve.config import ConversionConfig, LoadProgress, report_nothing
from glmserve.converter.calibration import input_ranges
from glmserve.converter.convert import convert
from glmserve.errors import CheckpointError
from glmserve.model_config import read_model_config
from support.golden import read_greedy, read_logits
from support.paged_model import Operations, PagedModel

QKV = "transformer.encoder.layers.0.self_attention.query_key_value"


def token_file(token_ids: list[int]) -> int:
    """A descriptor, as the command line makes it."""
    reading, writing = os.pipe()
    os.write(writing, array("i", token_ids).tobytes())
    os.close(writing)
    return reading


def run(source: Path, target: Path, kind: str, shard_bytes: int = 2**30) -> Path:
    """Convert with the goldens' prompts as calibration."""
    ids = [token for prompt in read_greedy(source)[0] for token in prompt]
    conversion = ConversionConfig(
        source=str(source),
        target=str(target),
        bits=8,
        group_size=None,
        layout="modelslim",
        rounds_activations=kind != "W8A16",
        calibration=token_file(ids) if kind == "W8A8" else None,
    )
    convert(conversion, report_nothing, shard_bytes)
    return target


@pytest.mark.parametrize("kind", ["W8A8", "W8A8_DYNAMIC", "W8A16"])
@pytest.mark.parametrize("name", ["glm2_base", "glm4_base", "glm2_no_qkv_bias"])
def test_every_tensor_is_described(
    golden_models: Path, tmp_path: Path, kind: str, name: str
) -> None:
    source = golden_models / name
    target = run(source, tmp_path / "out", kind)
    suffix = kind.lower()
    stored = load_file(target / f"quant_model_weight_{suffix}.safetensors")
    fields = json.loads((target / f"quant_model_description_{suffix}.json").read_text())
    assert json.loads((target / "config.json").read_text())["quantize"] == suffix
    assert fields.pop("model_quant_type") == kind
    assert fields.keys() == stored.keys()
    assert set(fields.values()) == {kind, "FLOAT"}
    assert fields["transformer.output_layer.weight"] == "FLOAT"
    parts = {n.removeprefix(f"{QKV}."): t.dtype for n, t in stored.items() if n.startswith(QKV)}
    bias = parts.pop("bias", None)
    half = torch.bfloat16 if name == "glm4_base" else torch.float16
    assert (bias is None) == (name == "glm2_no_qkv_bias")
    if kind == "W8A8":
        assert parts == {
            "weight": torch.int8,
            "input_scale": half,
            "input_offset": half,
            "quant_bias": torch.int32,
            "deq_scale": torch.float32 if half == torch.bfloat16 else torch.int64,
        }
    else:
        floats = dict.fromkeys(("weight_scale", "weight_offset"), torch.float32)
        assert parts == {"weight": torch.int8, **floats}


@pytest.mark.parametrize("operations", ["native", "ascend"])
@pytest.mark.parametrize("kind", ["W8A8", "W8A8_DYNAMIC", "W8A16"])
@pytest.mark.parametrize("name", ["glm2_base", "glm2_mha"])
def test_near_the_original(
    golden_models: Path, tmp_path: Path, operations: Operations, kind: str, name: str
) -> None:
    """Random weights, sure of nothing, are the worst case; one scale for all tokens is less exact
    than one for each."""
    model = PagedModel(run(golden_models / name, tmp_path / "out", kind), operations=operations)
    bound = {"W8A8": 0.09, "W8A8_DYNAMIC": 0.06, "W8A16": 0.035}[kind]
    for ids, want in read_logits(golden_models / name):
        got = model.logits(ids)
        assert 1e-4 < np.linalg.norm(got - want) / np.linalg.norm(want) < bound


@pytest.mark.parametrize("kind", ["W8A8", "W8A16"])
def test_on_an_emulated_gpu(golden_models: Path, tmp_path: Path, kind: str) -> None:
    """The rounded inputs are exact, so the result is the CPU's."""
    target = run(golden_models / "glm2_no_qkv_bias", tmp_path / "out", kind)
    gpu, cpu = (PagedModel(target, operations=which) for which in ("triton", "plain"))
    ids = read_logits(golden_models / "glm2_no_qkv_bias")[0][0][:9]
    np.testing.assert_allclose(gpu.logits(ids), cpu.logits(ids), rtol=0, atol=0.05)


def test_several_files(golden_models: Path, tmp_path: Path) -> None:
    source = golden_models / "glm2_base"
    one = PagedModel(run(source, tmp_path / "one", "W8A8"), operations="plain")
    target = run(source, tmp_path / "several", "W8A8", shard_bytes=200_000)
    assert len(list(target.glob("quant_model_weight_w8a8-*-of-*.safetensors"))) > 2
    assert (target / "quant_model_weight_w8a8.safetensors.index.json").exists()
    ids, _ = read_logits(source)[0]
    several = PagedModel(target, operations="plain")
    np.testing.assert_array_equal(several.logits(ids), one.logits(ids))


def test_the_ranges_are_those_of_the_inputs(golden_models: Path) -> None:
    """Of the first layer: the norm of the embedding; and they grow with the text."""
    source = golden_models / "glm2_base"
    config = read_model_config(source)
    ids = list(range(300, 340))
    calls: list[LoadProgress] = []
    ranges = input_ranges(config, source, ids, calls.append)
    assert calls[-1] == LoadProgress("calibration", 40, 40)
    assert len(ranges) == 4 * config.num_layers
    model = PagedModel(source, operations="plain")
    first = model.model.layers[0].input_norm.weight
    normed = model.ops.rms_norm(model.model.embedding[torch.tensor(ids)], first, config.norm_eps)
    assert ranges["layers.0.qkv"].low == pytest.approx(normed.min().item(), abs=1e-5)
    assert ranges["layers.0.qkv"].high == pytest.approx(normed.max().item(), abs=1e-5)
    longer = input_ranges(config, source, list(range(1000 - 700)) * 2, report_nothing)
    joined = input_ranges(config, source, [*ids, *range(200)], report_nothing)
    assert all(r.low < 0 and r.high > 0 for r in longer.values())
    assert joined["layers.0.qkv"].low <= ranges["layers.0.qkv"].low


def test_generations_that_the_layout_is_not_for(golden_models: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--layout modelslim is for ChatGLM2, ChatGLM3"):
        run(golden_models / "glm1_base", tmp_path / "out", "W8A16")


def test_not_twice(golden_models: Path, tmp_path: Path) -> None:
    target = run(golden_models / "glm2_base", tmp_path / "out", "W8A16")
    with pytest.raises(CheckpointError, match="quantised to 8 bits already"):
        convert(ConversionConfig(str(target), str(tmp_path / "twice"), 8, None), report_nothing)
