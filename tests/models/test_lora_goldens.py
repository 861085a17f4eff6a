"""What PEFT computes with LoRA adapters: alone, in chunks, mixed with the plain model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glmserve.contract.shard import Stage
from glmserve.errors import AdapterError
from support.exhaustive import exhaustive
from support.golden import ATOL, read_greedy, read_logits
from support.paged_model import Operations, PagedModel
from support.ranks import on_stages

ADAPTERS = {
    "glm2_lora": "glm2_base",
    "glm2_mha_lora": "glm2_mha",
    "glm3_lora": "glm3_base_sharded_st",
    "glm4_lora": "glm4_base",
    "glm_hf_lora": "glm_hf",
    "glm4_0414_lora": "glm4_0414",
}
"""Of models that read a prompt from left to right."""

every_adapter = pytest.mark.parametrize("name", ADAPTERS)
every_kind = pytest.mark.parametrize("operations", ["plain", "packed", "native"])


def adapted_model(
    golden_models: Path, name: str, operations: Operations = "native"
) -> tuple[PagedModel, int]:
    model = PagedModel(golden_models / ADAPTERS[name], operations=operations, adapters=2)
    return model, model.load_adapter(golden_models / name)


@every_adapter
@every_kind
def test_alone(golden_models: Path, name: str, operations: Operations) -> None:
    model, adapter = adapted_model(golden_models, name, operations)
    for ids, want in read_logits(golden_models / name):
        for chunk in (None, 1, 7):
            got = model.logits(ids, chunk, adapter)
            np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@every_adapter
@every_kind
def test_in_a_batch_with_the_plain_model(
    golden_models: Path, name: str, operations: Operations
) -> None:
    model, adapter = adapted_model(golden_models, name, operations)
    ids, want = read_logits(golden_models / name)[-1]
    plain_ids, plain_want = read_logits(golden_models / ADAPTERS[name])[0]
    sequences = [model.sequence(len(ids)), model.sequence(len(plain_ids))]
    sequences[0].adapter_id = adapter
    got = model.feed((sequences[0], ids), (sequences[1], plain_ids))
    np.testing.assert_allclose(got[0], want, rtol=0, atol=ATOL)
    np.testing.assert_allclose(got[1], plain_want, rtol=0, atol=ATOL)


@every_kind
def test_prompts_read_in_both_directions(golden_models: Path, operations: Operations) -> None:
    model = PagedModel(golden_models / "glm1_base", operations=operations, adapters=1)
    adapter = model.load_adapter(golden_models / "glm1_lora")
    prompts, answers = read_greedy(golden_models / "glm1_lora")
    for prompt, answer, (_, want) in zip(
        prompts, answers, read_logits(golden_models / "glm1_lora"), strict=True
    ):
        sequence = model.sequence(len(prompt) + len(answer))
        sequence.adapter_id = adapter
        parts = [model.feed((sequence, part))[0] for part in (prompt, answer[:3], answer[3:])]
        np.testing.assert_allclose(np.concatenate(parts), want, rtol=0, atol=ATOL)


@every_adapter
def test_greedy_text(golden_models: Path, name: str) -> None:
    model, adapter = adapted_model(golden_models, name)
    for prompt, want in zip(*read_greedy(golden_models / name), strict=True):
        sequence = model.sequence(len(prompt) + len(want))
        sequence.adapter_id = adapter
        new, got = prompt, []
        for _ in want:
            got.append(int(model.feed((sequence, new))[0][-1].argmax()))
            new = got[-1:]
        assert got == want


@pytest.mark.parametrize("name", [exhaustive("glm2_lora"), "glm3_lora"])
@pytest.mark.parametrize("operations", ["ascend", exhaustive("triton")])
def test_on_other_devices(golden_models: Path, name: str, operations: Operations) -> None:
    """Simulated and interpreted ones."""
    model, adapter = adapted_model(golden_models, name, operations)
    ids, want = read_logits(golden_models / name)[0]
    got = model.logits(ids, None if operations == "ascend" else 16, adapter)
    np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


def logits_on(
    golden_models: Path, name: str, stages: int, ranks: int, ids: list[int], *, ordered: bool
) -> list[np.ndarray]:
    """Of each rank of the last stage."""

    def compute(collectives: Any, stage: Stage) -> np.ndarray:
        model = PagedModel(
            golden_models / ADAPTERS[name],
            operations="native",
            collectives=collectives,
            stage=stage,
            ordered=ordered,
            adapters=1,
        )
        return model.logits(ids, 7, model.load_adapter(golden_models / name))

    return on_stages(stages, ranks, compute)[-ranks:]


@pytest.mark.parametrize("name", ["glm2_lora", "glm3_lora", "glm4_lora"])
@pytest.mark.parametrize(("stages", "ranks"), [(1, 2), (2, 1), exhaustive(2, 2)])
@pytest.mark.parametrize("ordered", [False, True])
def test_ranks_and_stages(
    golden_models: Path, name: str, stages: int, ranks: int, ordered: bool
) -> None:
    """Each rank has its slices of A or B, each stage its layers."""
    ids, want = read_logits(golden_models / name)[-1]
    got = logits_on(golden_models, name, stages, ranks, ids, ordered=ordered)
    for logits in got:
        np.testing.assert_allclose(logits, want, rtol=0, atol=ATOL)
    if ordered:  # sums have the same order whatever the number of ranks
        alone = logits_on(golden_models, name, 1, 1, ids, ordered=True)
        np.testing.assert_array_equal(got[0], alone[0])


def test_dora_is_refused_by_name(golden_models: Path) -> None:
    model = PagedModel(golden_models / "glm_hf", adapters=1)
    with pytest.raises(AdapterError, match=r"use_dora: .*convert --merge-adapter"):
        model.load_adapter(golden_models / "glm_hf_dora")


def test_names_of_the_other_format_mean_the_same(tmp_path: Path, golden_models: Path) -> None:
    """An adapter that was trained on the -hf checkpoint serves the publisher's format."""
    from safetensors.torch import load_file

    from support.lora import write_adapter

    folder = golden_models / "glm2_lora"
    stored = load_file(folder / "adapter_model.safetensors")
    heads, groups = 8 * 16, 2 * 16
    renamed = {}
    for name, tensor in stored.items():
        layer = name.split("layers.")[1].split(".")[0]
        sizes = [heads, groups, groups]
        parts = [tensor] * 3 if "lora_A" in name else tensor.split(sizes)
        for letter, part in zip("qkv", parts, strict=True):
            kind = name.rsplit(".lora_", 1)[1]
            module = f"base_model.model.model.layers.{layer}.self_attn.{letter}_proj"
            renamed[f"{module}.lora_{kind}"] = part.clone()
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["target_modules"] = ["q_proj", "k_proj", "v_proj"]
    write_adapter(tmp_path, renamed, **settings)
    model = PagedModel(golden_models / "glm2_base", operations="native", adapters=1)
    adapter = model.load_adapter(tmp_path)
    for ids, want in read_logits(folder):
        np.testing.assert_allclose(model.logits(ids, adapter_id=adapter), want, rtol=0, atol=ATOL)
