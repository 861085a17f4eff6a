"""Adapters merged into their models: the merged checkpoint computes what PEFT does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from glmserve.config import ConversionConfig, WeightBits, report_nothing
from glmserve.converter.convert import Report, convert
from glmserve.converter.main import render
from glmserve.errors import AdapterError, CheckpointError
from support.golden import ATOL, read_greedy, read_logits
from support.lora import lora_tensors, write_adapter
from support.paged_model import PagedModel
from support.tiny_models import BASE, random_weights, write_checkpoint

ADAPTERS = {
    "glm1_lora": "glm1_base",
    "glm2_lora": "glm2_base",
    "glm2_mha_lora": "glm2_mha",
    "glm3_lora": "glm3_base_sharded_st",
    "glm_hf_lora": "glm_hf",
    "glm_hf_dora": "glm_hf",
}
NORM_BIAS = "transformer.layers.3.input_layernorm.bias"
STORED_AS_FLOAT16 = 0.2
"""Logits are off by less if merged weights are rounded to the base's float16."""


def merge(
    base: Path, adapter: Path, target: Path, bits: WeightBits | None = None
) -> tuple[ConversionConfig, Report]:
    conversion = ConversionConfig(str(base), str(target), bits, None, merge_adapter=str(adapter))
    return conversion, convert(conversion, report_nothing)


@pytest.mark.parametrize("name", ADAPTERS)
def test_logits_of_the_adapter(tmp_path: Path, golden_models: Path, name: str) -> None:
    _, report = merge(golden_models / ADAPTERS[name], golden_models / name, tmp_path / "merged")
    assert max(max(errors) for errors in report.errors.values()) < 1e-3
    model = PagedModel(tmp_path / "merged", operations="native")
    limit = ATOL if name.startswith("glm_hf") else STORED_AS_FLOAT16
    prompts, answers = read_greedy(golden_models / name)
    for prompt, answer, (_, want) in zip(
        prompts, answers, read_logits(golden_models / name), strict=True
    ):
        sequence = model.sequence(len(prompt) + len(answer))
        parts = [model.feed((sequence, part))[0] for part in (prompt, answer)]
        off = np.abs(np.concatenate(parts) - want)
        assert off.max() < limit
        assert off.mean() < limit / 10


def test_a_bias_of_b_needs_a_bias(tmp_path: Path, golden_models: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"lora_bias: the model has no layers\.\d\.d\w+\.bias"
    ):
        merge(golden_models / "glm4_base", golden_models / "glm4_lora", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("bits", [8, 4])
def test_rounded_after_merging(tmp_path: Path, bits: WeightBits) -> None:
    """As the merged weights by themselves would be; the report is of them."""
    base = write_checkpoint(tmp_path / "base", BASE, random_weights(BASE))
    adapter = write_adapter(tmp_path / "adapter", lora_tensors(BASE), lora_alpha=4)
    merge(base, adapter, tmp_path / "merged")
    conversion, report = merge(base, adapter, tmp_path / "at once", bits)
    config = ConversionConfig(str(tmp_path / "merged"), str(tmp_path / "twice"), bits, None)
    assert convert(config, report_nothing).errors == report.errors
    models = [PagedModel(tmp_path / name, operations="native") for name in ("at once", "twice")]
    ids = [5, 9, 2, 30]
    np.testing.assert_array_equal(*(model.logits(ids) for model in models))
    assert f"{bits} bits, one scale for a row; {adapter} is merged" in render(conversion, report)


@pytest.mark.parametrize("change", [0.0, 0.5])
def test_biases_of_norms(tmp_path: Path, golden_models: Path, change: float) -> None:
    """They can be merged; beside the model they are served only if they are the model's own."""
    base, lora, name = golden_models / "glm1_base", golden_models / "glm1_lora", NORM_BIAS
    tensors = load_file(lora / "adapter_model.safetensors")
    own = load_file(base / "model.safetensors")[name]
    tensors[f"base_model.model.{name}"] = own.float() + change
    settings = json.loads((lora / "adapter_config.json").read_text())
    adapter = write_adapter(tmp_path / "adapter", tensors, **{**settings, "bias": "all"})
    merge(base, adapter, tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")[name]
    torch.testing.assert_close(merged.float(), own.float() + change, rtol=1e-3, atol=1e-3)
    model = PagedModel(base, adapters=1)
    if change:
        with pytest.raises(AdapterError, match=r"layers\.3\.input_norm\.bias: biases of norms"):
            model.load_adapter(adapter)
    else:
        model.load_adapter(adapter)


def test_numbers_as_in_the_source(tmp_path: Path, golden_models: Path) -> None:
    base, adapter = golden_models / "glm2_base", golden_models / "glm2_lora"
    conversion, report = merge(base, adapter, tmp_path / "merged")
    before, after = (load_file(f / "model.safetensors") for f in (base, tmp_path / "merged"))
    assert {n: t.dtype for n, t in after.items()} == {n: t.dtype for n, t in before.items()}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("query_key_value.weight")}
    assert report.source_bytes == report.target_bytes
    text = render(conversion, report)
    assert "numbers as in the source" in text
    assert "qkv" in text


def test_what_cannot_be_merged(tmp_path: Path, golden_models: Path) -> None:
    base = golden_models / "glm2_base"
    with pytest.raises(CheckpointError, match="a prefix is no change of weights"):
        merge(base, golden_models / "glm2_ptuning", tmp_path / "merged")
    with pytest.raises(
        CheckpointError, match=r"expected \[8, 128\], found \[8, 64\]|names this module|layers"
    ):
        merge(base, golden_models / "glm2_mha_lora", tmp_path / "merged")
    with pytest.raises(CheckpointError, match="quantised to 8 bits already"):
        merge(golden_models / "glm2_int8", golden_models / "glm2_lora", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
