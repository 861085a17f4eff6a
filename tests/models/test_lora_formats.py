"""Adapters on checkpoints that are quantised already: codes stay as they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from glmserve.adapters import LoraConfig, read_adapter_config
from glmserve.config import ConversionConfig, report_nothing
from glmserve.converter.convert import convert
from glmserve.errors import AdapterError
from glmserve.golden.reference import Reference
from glmserve.model_config import read_model_config
from glmserve.model_config.modelslim import Kind, ModelSlim
from glmserve.models.lora import read_lora_weights
from glmserve.runner import tensor_names
from support.exhaustive import exhaustive
from support.golden import ATOL, read_greedy
from support.paged_model import Operations, PagedModel


def expected(base: Path, adapter: Path, ids: list[int]) -> NDArray[np.float32]:
    """Logits by the model written out plainly, with B A added to what the codes stand for."""
    config = read_model_config(base)
    reference = Reference(config, base, torch.float32, report_nothing)
    lora = read_adapter_config(adapter)
    assert isinstance(lora, LoraConfig)
    for module, changes in read_lora_weights(lora, config).modules.items():
        reference.add_to_weight(f"{module}.weight", changes.b @ changes.a)
    return reference.tensors(ids)[tensor_names.LOGITS].numpy()


def adapted_logits(
    base: Path, adapter: Path, prompt: list[int], answer: list[int], operations: Operations
) -> NDArray[np.float32]:
    model = PagedModel(base, operations=operations, adapters=1)
    sequence = model.sequence(len(prompt) + len(answer))
    sequence.adapter_id = model.load_adapter(adapter)
    return np.concatenate([model.feed((sequence, part))[0] for part in (prompt, answer)])


@pytest.mark.parametrize(
    ("base", "adapter"),
    [("glm2_int8", "glm2_lora"), ("glm2_int4", "glm2_lora"), ("glm1_int8", "glm1_lora")],
)
@pytest.mark.parametrize("operations", ["native", exhaustive("packed"), exhaustive("plain")])
def test_official_codes(
    golden_models: Path, base: str, adapter: str, operations: Operations
) -> None:
    prompts, answers = read_greedy(golden_models / adapter)
    folders = golden_models / base, golden_models / adapter
    got = adapted_logits(*folders, prompts[0], answers[0], operations)
    want = expected(*folders, [*prompts[0], *answers[0]])
    np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


def test_smoothed_inputs_are_not_those_of_the_training(golden_models: Path) -> None:
    base, folder = golden_models / "glm2_base", golden_models / "glm2_lora"
    model, lora = read_model_config(base), read_adapter_config(folder)
    assert isinstance(lora, LoraConfig)
    modules = [
        f"layers.{i}.{name}" for i in range(3) for name in ("qkv", "dense", "gate_up", "down")
    ]
    kinds: dict[str, Kind] = dict.fromkeys([*modules, "output"], "W8A16")
    smoothed = ModelSlim(Path("description.json"), kinds, frozenset({"layers.1.qkv"}))
    with pytest.raises(AdapterError, match=r"layers\.1\..*query_key_value.*inputs .* are smoothed"):
        read_lora_weights(lora, dataclasses.replace(model, modelslim=smoothed, stored_bits=8))


@pytest.mark.parametrize("rounds_activations", [False, True])
def test_modelslim(tmp_path: Path, golden_models: Path, rounds_activations: bool) -> None:
    """Rounded activations make the whole model less exact, not the adapter."""
    base, adapter = golden_models / "glm2_base", golden_models / "glm2_lora"
    options = {"layout": "modelslim", "rounds_activations": rounds_activations}
    convert(ConversionConfig(str(base), str(tmp_path / "new"), 8, None, **options), report_nothing)
    prompts, answers = read_greedy(adapter)
    got = adapted_logits(tmp_path / "new", adapter, prompts[0], answers[0], "native")
    off = np.abs(got - expected(base, adapter, [*prompts[0], *answers[0]])).mean()
    plain = PagedModel(tmp_path / "new", operations="native").logits(prompts[0])
    effect = np.abs(got[: len(prompts[0])] - plain).mean()
    assert off < 0.2
    assert effect > 5 * off
