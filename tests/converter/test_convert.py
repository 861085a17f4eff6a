"""Converted checkpoints: the official bits where there are official ones, else half a step away."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from glmserve.config import ConversionConfig, LoadProgress, WeightBits, report_nothing
from glmserve.converter.convert import Report, convert
from glmserve.errors import CheckpointError, OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.checkpoint_files import weight_files
from glmserve.models.names import placements
from glmserve.models.parameters import LINEAR_MODULES, Parameters
from glmserve.models.weights import load_weights
from glmserve.ops.linear.quantized import QuantizedWeight
from support.paged_model import Operations, PagedModel
from support.tiny_models import BASE, Config, random_weights, reference_logits, write_checkpoint

CPU = torch.device("cpu")
DOWN = "transformer.encoder.layers.1.mlp.dense_4h_to_h.weight"

GLM: Config = {
    "model_type": "glm",
    "vocab_size": 48,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
}


CHATGLM_6B: Config = {
    "model_type": "chatglm",
    "position_encoding_2d": True,
    "vocab_size": 48,
    "hidden_size": 32,
    "inner_hidden_size": 40,
    "num_layers": 2,
    "num_attention_heads": 4,
    "gmask_token_id": 41,
    "mask_token_id": 40,
    "bos_token_id": 44,
}


def run(
    source: Path, target: Path, bits: WeightBits, group_size: int | None = None, **options: Any
) -> Report:
    return convert(
        ConversionConfig(str(source), str(target), bits, group_size), report_nothing, **options
    )


def read(folder: Path) -> tuple[ModelConfig, Parameters]:
    config = read_model_config(folder)
    return config, dict(load_weights(config, folder, torch.float32, CPU, report_nothing))


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {n: t for file in weight_files(folder) for n, t in load_file(file).items()}


def random_source(folder: Path, config: Config) -> Path:
    if "kv_channels" in config:
        return write_checkpoint(folder, config, random_weights(config))
    write_checkpoint(folder, config, {})
    rng = np.random.default_rng(0)
    shapes = {n: p.shape for n, p in placements(read_model_config(folder)).items()}
    weights = {n: torch.from_numpy(rng.normal(size=s)).bfloat16() for n, s in shapes.items()}
    return write_checkpoint(folder, config, weights)


@pytest.mark.parametrize(("model", "bits"), [("glm2", 8), ("glm2", 4), ("glm1", 8)])
def test_official_bits(golden_models: Path, tmp_path: Path, model: str, bits: WeightBits) -> None:
    """So greedy text is the official checkpoint's too, which other tests hold."""
    run(golden_models / f"{model}_base", tmp_path / "new", bits)
    found, official = stored(tmp_path / "new"), stored(golden_models / f"{model}_int{bits}")
    assert found.keys() == official.keys()
    for name, tensor in official.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    configs = tmp_path / "new", golden_models / f"{model}_int{bits}"
    ours, theirs = (json.loads((c / "config.json").read_text()) for c in configs)
    assert ours == theirs


def test_pickled_source(tmp_path: Path) -> None:
    """One file, named directly; tensors that share memory, and some transposed in it."""
    weights = random_weights(BASE)
    embedding = weights["transformer.embedding.word_embeddings.weight"]
    weights["transformer.output_layer.weight"] = embedding
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    run(write_checkpoint(tmp_path / "a", BASE, copies), tmp_path / "from-a", 4)
    weights[DOWN] = weights[DOWN].t().contiguous().t()
    write_checkpoint(tmp_path / "b", BASE, {})
    torch.save(weights, tmp_path / "b" / "weights.pt")
    run(tmp_path / "b" / "weights.pt", tmp_path / "from-b", 4)
    a, b = stored(tmp_path / "from-a"), stored(tmp_path / "from-b")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not (tmp_path / "from-b" / "weights.pt").exists()


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, None), (4, 8), (4, 2)])
@pytest.mark.parametrize(
    "config",
    [
        BASE,
        BASE | {"multi_query_attention": False},
        CHATGLM_6B,
        GLM,
        GLM | {"tie_word_embeddings": True},
    ],
    ids=["chatglm", "rows per head", "chatglm-6b", "glm", "glm with tied embeddings"],
)
def test_every_number_is_within_half_a_step(
    tmp_path: Path, config: Config, bits: WeightBits, group_size: int | None
) -> None:
    source = random_source(tmp_path / "source", config)
    run(source, tmp_path / "new", bits, group_size)
    _, exact = read(source)
    model, found = read(tmp_path / "new")
    assert (model.stored_bits, model.stored_group_size) == (bits, group_size)
    for name, weight in exact.items():
        module, _, kind = name.rpartition(".")
        if kind != "weight" or module.rpartition(".")[2] not in LINEAR_MODULES - {"output"}:
            assert torch.equal(found[name], weight)
            continue
        scales = found[f"{module}.scales"].view(len(weight), -1)
        assert scales.shape[1] == (weight.shape[1] // group_size if group_size else 1)
        rounded = QuantizedWeight(found[f"{module}.codes"], scales, bits).dequantized(torch.float32)
        off = (rounded - weight).abs().view(*scales.shape, -1).amax(-1)
        assert (off <= 0.51 * scales.float()).all(), name  # scales are rounded themselves


@pytest.mark.parametrize(
    ("config", "group_size", "operations"),
    [
        (BASE, 8, "packed"),
        (BASE, 8, "native"),
        (BASE | {"ffn_hidden_size": 64, "kv_channels": 16}, 32, "packed"),
        (BASE | {"ffn_hidden_size": 64, "kv_channels": 16}, 32, "native"),
        (BASE | {"ffn_hidden_size": 64, "kv_channels": 16}, 32, "triton"),
    ],
)
def test_logits_of_groups(
    tmp_path: Path, config: Config, group_size: int, operations: Operations
) -> None:
    """The model that reads groups computes what their numbers say."""
    weights = random_weights(config)
    source = write_checkpoint(tmp_path / "source", config, weights)
    run(source, tmp_path / "new", 4, group_size)
    found = stored(tmp_path / "new")
    for name in [name for name in found if name.endswith("_scale")]:
        codes = found[name.removesuffix("_scale")].numpy()
        numbers = np.stack([codes >> 4, (codes << 4).astype(np.int8) >> 4], -1)
        scales = found[name].float().numpy()[..., None]
        numbers = numbers.reshape(*found[name].shape, group_size) * scales
        weights[name.removesuffix("_scale")] = torch.from_numpy(numbers.reshape(len(codes), -1))
    ids = [3, 14, 15, 9, 26, 5]
    want = reference_logits(config, weights, ids)
    got = PagedModel(tmp_path / "new", operations=operations).logits(ids)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * max(5.0, np.abs(want).max()))


def test_files_of_limited_size(tmp_path: Path) -> None:
    source = random_source(tmp_path / "source", BASE)
    run(source, tmp_path / "one", 8)
    report = run(source, tmp_path / "many", 8, shard_bytes=8000)
    files = weight_files(tmp_path / "many")
    assert [f.name for f in files] == [
        f"model-{i + 1:05}-of-{report.files:05}.safetensors" for i in range(report.files)
    ]
    sizes = [sum(t.nbytes for t in load_file(file).values()) for file in files]
    assert report.files > 2
    assert max(sizes) <= 8000
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(sizes) == report.target_bytes
    assert index["weight_map"] == {n: f.name for f in files for n in load_file(f)}
    one, many = stored(tmp_path / "one"), stored(tmp_path / "many")
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)
    modes = {f.stat().st_mode for f in (tmp_path / "many").iterdir()}
    assert len(modes) == 1  # whoever may read config.json may read the weights


def test_report(tmp_path: Path) -> None:
    source = random_source(tmp_path / "source", BASE)
    steps: list[LoadProgress] = []
    config = ConversionConfig(str(source), str(tmp_path / "new"), 8, None)
    report = convert(config, steps.append)
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert done[-1] == report.source_bytes == sum(t.nbytes for t in stored(source).values())
    assert {step.total for step in steps} == {(source / "model.safetensors").stat().st_size}
    assert report.target_bytes == sum(t.nbytes for t in stored(tmp_path / "new").values())
    assert report.target_bytes < report.source_bytes
    assert {kind: len(errors) for kind, errors in report.errors.items()} == dict.fromkeys(
        ("qkv", "dense", "gate_up", "down"), 2
    )
    exact, new = stored(source)[DOWN], stored(tmp_path / "new")
    off = new[DOWN].float() * new[f"{DOWN}_scale"].float()[:, None] - exact
    assert report.errors["down"][1] == pytest.approx((off.norm() / exact.norm()).item(), rel=1e-4)


def test_what_is_copied(tmp_path: Path) -> None:
    source = random_source(tmp_path / "chatglm3-6b", BASE | {"_name_or_path": ""})
    for name in ("tokenizer.model", "tokenizer_config.json", "modeling.py", "MODEL_LICENSE"):
        (source / name).write_text(f"{{}} # {name}" if name.endswith("py") else "{}")
    for name in ("pytorch_model.bin.index.json", "other.gguf"):
        (source / name).write_text("{}")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    run(source, tmp_path / "new", 8)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json"),
        *("modeling.py", "MODEL_LICENSE", "additional_chat_templates"),
    }
    assert (tmp_path / "new" / "additional_chat_templates" / "tool_use.jinja").is_file()
    fields = json.loads((tmp_path / "new" / "config.json").read_text())
    assert fields["_name_or_path"] == "chatglm3-6b"  # nothing else told which one it is


def test_a_rope_ratio_of_unknown_meaning_is_none_of_its_business(tmp_path: Path) -> None:
    config = BASE | {"_name_or_path": "unknown", "rope_ratio": 8}
    run(random_source(tmp_path / "source", config), tmp_path / "new", 8)
    assert read_model_config(tmp_path / "new", "positions").rope.position_divisor == 8


class TestRefusals:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return random_source(tmp_path / "source", BASE)

    def refusal(
        self, source: Path, bits: WeightBits, group_size: int | None, kind: type[Exception]
    ) -> str:
        target = source.parent / "new"
        with pytest.raises(kind) as error:
            run(source, target, bits, group_size)
        assert {path.name for path in source.parent.iterdir()} == {"source"}  # nothing is left
        return str(error.value)

    def test_quantised_already(self, golden_models: Path, tmp_path: Path) -> None:
        shutil.copytree(golden_models / "glm2_int8", tmp_path / "source")
        said = self.refusal(tmp_path / "source", 4, None, CheckpointError)
        assert "quantised to 8 bits already" in said

    def test_groups_that_do_not_fit(self, source: Path) -> None:
        assert "does not divide the 40 columns" in self.refusal(source, 4, 16, OptionError)

    def test_half_a_byte(self, tmp_path: Path) -> None:
        source = random_source(tmp_path / "source", BASE | {"ffn_hidden_size": 41})
        assert "whole bytes" in self.refusal(source, 4, None, OptionError)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
    def test_numbers_without_a_scale(self, tmp_path: Path, value: float) -> None:
        weights = random_weights(BASE)
        weights[DOWN][5, 7] = value
        source = write_checkpoint(tmp_path / "source", BASE, weights)
        said = self.refusal(source, 8, None, CheckpointError)
        assert said.startswith(f"{source / 'model.safetensors'}: {DOWN}: ")

    def test_a_target_that_fills_up_meanwhile(self, source: Path, tmp_path: Path) -> None:
        target = tmp_path / "new"

        def interfere(_: LoadProgress) -> None:
            target.mkdir(exist_ok=True)
            (target / "precious").touch()

        with pytest.raises(OSError, match="not empty"):
            convert(ConversionConfig(str(source), str(target), 8, None), interfere)
        assert [path.name for path in target.iterdir()] == ["precious"]
        assert not (tmp_path / "new.partial").exists()


def test_an_empty_target_is_taken(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    run(random_source(tmp_path / "source", BASE), tmp_path / "new", 8)
    assert (tmp_path / "new" / "config.json").is_file()


def test_where_it_is_written_first() -> None:
    config = ConversionConfig("a", "/x/b", 8, None)
    assert config.partial == "/x/b.partial"
    assert dataclasses.replace(config, target="c").partial == "c.partial"


def test_folders_whose_names_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xc4\xa3\xd0\xcd")
    config = BASE | {"_name_or_path": ""}
    source = random_source(tmp_path / "plain", config).rename(tmp_path / name)
    expected, found = tmp_path / "expected", tmp_path / f"{name}-int8"
    for target in (expected, found):
        run(source, target, 8)
    assert (found / "model.safetensors").read_bytes() == (
        expected / "model.safetensors"
    ).read_bytes()
