"""Prefixes by name: PEFT's and the publisher's, several in a batch, each in slots of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glmserve.adapters import PrefixAdapterConfig, read_adapter_config
from glmserve.errors import AdapterError
from glmserve.model_config import read_model_config
from glmserve.model_config.sharding import WHOLE_MODEL
from glmserve.models.prefix import load_prefix_adapter
from glmserve.ops.attention.native_cpu import NativeCpuAttention
from support.exhaustive import exhaustive
from support.golden import ATOL, PREFIXES, read_greedy, read_logits
from support.lora import random_prefix
from support.paged_model import Operations, PagedModel
from support.ranks import on_ranks

PEFT = ["glm_hf_prefix", "glm_hf_prefix_proj"]
BASES = {**dict.fromkeys(PEFT, "glm_hf"), "glm4_0414_prefix": "glm4_0414"}
ROOM = {"adapters": 3, "max_prefix_length": 32}

every_kind = pytest.mark.parametrize("operations", ["plain", "packed", "native"])


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("chunk", [None, 1, 7])
@every_kind
def test_pefts_on_transformers_class(
    golden_models: Path, name: str, chunk: int | None, operations: Operations
) -> None:
    """Rotary positions begin behind the prefix there."""
    model = PagedModel(golden_models / BASES[name], operations=operations, **ROOM)
    adapter = model.load_adapter(golden_models / name)
    for ids, want in read_logits(golden_models / name):
        got = model.logits(ids, chunk, adapter)
        np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", BASES)
def test_greedy_text(golden_models: Path, name: str) -> None:
    model = PagedModel(golden_models / BASES[name], operations="native", **ROOM)
    adapter = model.load_adapter(golden_models / name)
    for prompt, want in zip(*read_greedy(golden_models / name), strict=True):
        sequence = model.sequence(len(prompt) + len(want))
        sequence.adapter_id = adapter
        new, got = prompt, []
        for _ in want:
            got.append(int(model.feed((sequence, new))[0][-1].argmax()))
            new = got[-1:]
        assert got == want


@pytest.mark.parametrize("operations", ["plain", "packed", "native", "triton", "ascend"])
def test_a_mixed_batch(golden_models: Path, operations: Operations) -> None:
    """Two prefixes, a LoRA, and the plain model; first their prompts, then single tokens."""
    model = PagedModel(golden_models / "glm_hf", operations=operations, **ROOM)
    names = [*PEFT, "glm_hf_lora", "glm_hf"]
    ids = [0 if name == "glm_hf" else model.load_adapter(golden_models / name) for name in names]
    texts = [read_logits(golden_models / name)[i % 2] for i, name in enumerate(names)]
    sequences = [model.sequence(len(text)) for text, _ in texts]
    for sequence, adapter in zip(sequences, ids, strict=True):
        sequence.adapter_id = adapter
    found: list[list[Any]] = [[] for _ in texts]
    starts = [0] * len(texts)
    for size in (3, *[1] * 40):
        work = [
            (i, texts[i][0][start : start + size])
            for i, start in enumerate(starts)
            if start < len(texts[i][0])
        ]
        if not work:
            break
        for (i, new), logits in zip(
            work, model.feed(*((sequences[i], new) for i, new in work)), strict=True
        ):
            starts[i] += len(new)
            found[i].append(logits)
    for parts, (_, want) in zip(found, texts, strict=True):
        np.testing.assert_allclose(np.concatenate(parts), want, rtol=0, atol=ATOL)


@every_kind
def test_a_place_is_used_again(golden_models: Path, operations: Operations) -> None:
    model = PagedModel(
        golden_models / "glm_hf", operations=operations, adapters=1, max_prefix_length=20
    )
    assert model.adapters is not None
    for name in [*PEFT, PEFT[0]]:
        adapter = model.load_adapter(golden_models / name)
        ids, want = read_logits(golden_models / name)[0]
        np.testing.assert_allclose(model.logits(ids, 4, adapter), want, rtol=0, atol=ATOL)
        model.adapters.remove(adapter)


def test_other_weights_beside_a_prefix_are_not_read(golden_models: Path, tmp_path: Path) -> None:
    """What is read is what the digest is of."""
    folder = tmp_path / "prefix"
    shutil.copytree(golden_models / "glm2_ptuning", folder)
    config = read_model_config(golden_models / "glm2_base")
    adapter = read_adapter_config(folder)
    assert isinstance(adapter, PrefixAdapterConfig)
    before = load_prefix_adapter(config, adapter, torch.float32, WHOLE_MODEL)
    save_file({"x": torch.ones(1)}, folder / "quant_model_weight.safetensors")
    (folder / "quant_model_description.json").write_text('{"x": "FLOAT"}')
    after = load_prefix_adapter(config, adapter, torch.float32, WHOLE_MODEL)
    assert torch.equal(before, after)


@pytest.mark.parametrize(("base", "name"), PREFIXES)
@every_kind
def test_the_publishers_folders(
    golden_models: Path, base: str, name: str, operations: Operations
) -> None:
    model = PagedModel(golden_models / base, operations=operations, **ROOM)
    adapter = model.load_adapter(golden_models / name)
    prompts, answers = read_greedy(golden_models / name)
    for prompt, answer, (_, want) in zip(
        prompts, answers, read_logits(golden_models / name), strict=True
    ):
        sequence = model.sequence(len(prompt) + len(answer))
        sequence.adapter_id = adapter
        parts = [model.feed((sequence, part))[0] for part in (prompt, answer[:3], answer[3:])]
        np.testing.assert_allclose(np.concatenate(parts), want, rtol=0, atol=ATOL)


def as_peft(folder: Path, published: Path, **settings: Any) -> Path:
    """The prefix of a P-Tuning v2 folder without projection, as PEFT would save it."""
    stored = torch.load(published / "pytorch_model.bin", weights_only=True)
    rows = stored["transformer.prefix_encoder.embedding.weight"].float().contiguous()
    folder.mkdir()
    fields = {
        "peft_type": "PREFIX_TUNING",
        "task_type": "CAUSAL_LM",
        "num_virtual_tokens": len(rows),
        "inference_mode": True,
        **settings,
    }
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    save_file({"prompt_embeddings": rows}, folder / "adapter_model.safetensors")
    return folder


def test_pefts_on_the_publishers_code(golden_models: Path, tmp_path: Path) -> None:
    """Rotary positions begin at 0 there; ChatGLM3's recipe names heads and width."""
    folder = as_peft(
        tmp_path / "new",
        golden_models / "glm2_ptuning",
        num_attention_heads=2,
        token_dim=32,
        num_layers=3,
        num_transformer_submodules=1,
        encoder_hidden_size=32,
        prefix_projection=False,
    )
    model = PagedModel(golden_models / "glm2_base", **ROOM)
    adapter = model.load_adapter(folder)
    for ids, want in read_logits(golden_models / "glm2_ptuning"):
        np.testing.assert_allclose(model.logits(ids, 5, adapter), want, rtol=0, atol=ATOL)


def test_the_same_bits_in_any_batch(golden_models: Path) -> None:
    """With --deterministic: beside longer prefixes, and without any."""
    model = PagedModel(golden_models / "glm_hf", operations="native", deterministic=True, **ROOM)
    adapters = [model.load_adapter(golden_models / name) for name in PEFT]
    ids, _ = read_logits(golden_models / PEFT[0])[1]
    alone = model.logits(ids, 1, adapters[0])
    sequences = [model.sequence(len(ids)) for _ in range(3)]
    for sequence, adapter in zip(sequences, (adapters[1], adapters[0], 0), strict=True):
        sequence.adapter_id = adapter
    together = model.feed(*((sequence, ids) for sequence in sequences))
    np.testing.assert_array_equal(together[1], alone)


@pytest.mark.parametrize(
    ("length", "block_size"), [(1, 32), (32, 32), exhaustive(33, 32), (70, 64), exhaustive(64, 64)]
)
def test_our_attention_on_cpus(
    golden_models: Path, tmp_path: Path, length: int, block_size: int
) -> None:
    """Any length in blocks of any size, and contexts of several spans, as plain attention."""
    config = json.loads((golden_models / "glm2_base" / "config.json").read_text())
    folder = random_prefix(tmp_path / "prefix", config, length)
    ids = [int(i) for i in np.random.default_rng(length).integers(3, 90, 700)]
    room = {"adapters": 2, "max_prefix_length": length + 3, "num_blocks": 64}
    found = []
    for operations in ("plain", "native"):
        model = PagedModel(
            golden_models / "glm2_base", operations=operations, block_size=block_size, **room
        )
        is_native = isinstance(model.ops.attention, NativeCpuAttention)
        assert is_native == (operations == "native")
        model.load_adapter(golden_models / "glm2_lora")
        adapter = model.load_adapter(folder)
        sequences = [model.sequence(len(ids)), model.sequence(40)]
        sequences[0].adapter_id = adapter
        parts = [model.feed((sequences[0], ids[:650]), (sequences[1], ids[:39]))]
        parts.append(model.feed((sequences[0], ids[650:651]), (sequences[1], ids[39:40])))
        found.append([np.concatenate(rows) for rows in zip(*parts, strict=True)])
    for plain, native in zip(*found, strict=True):
        np.testing.assert_allclose(native, plain, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", PEFT)
def test_two_ranks(golden_models: Path, name: str) -> None:
    ids, want = read_logits(golden_models / name)[1]

    def compute(collectives: Any) -> Any:
        model = PagedModel(golden_models / "glm_hf", collectives=collectives, **ROOM)
        return model.logits(ids, 7, model.load_adapter(golden_models / name))

    for got in on_ranks(2, compute):
        np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("operations", ["packed", "native"])
def test_int8_cache(golden_models: Path, operations: Operations) -> None:
    model = PagedModel(
        golden_models / "glm_hf", operations=operations, kv_cache_dtype="int8", **ROOM
    )
    adapter = model.load_adapter(golden_models / PEFT[0])
    for ids, want in read_logits(golden_models / PEFT[0]):
        got = model.logits(ids, 9, adapter)
        assert np.linalg.norm(got - want) / np.linalg.norm(want) < 0.05


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_virtual_tokens": 33}, "33 slots is more than --max-prefix-length 32"),
        ({"num_virtual_tokens": 4}, "it is another model's"),
        ({"num_attention_heads": 4}, "num_attention_heads = 4"),
        ({"num_layers": 7}, "num_layers = 7"),
        ({"num_transformer_submodules": 2}, "num_transformer_submodules"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"num_virtual_tokens": None}, "num_virtual_tokens"),
    ],
)
def test_what_cannot_be_served(
    golden_models: Path, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    model = PagedModel(golden_models / "glm2_base", **ROOM)
    folder = as_peft(tmp_path / "new", golden_models / "glm2_ptuning", **settings)
    with pytest.raises(AdapterError, match=said):
        model.load_adapter(folder)


def test_unknown_tensors_are_refused(golden_models: Path, tmp_path: Path) -> None:
    folder = as_peft(tmp_path / "new", golden_models / "glm2_ptuning")
    save_file(
        {"prompt_embeddings": torch.zeros(2), "x": torch.zeros(2)},
        folder / "adapter_model.safetensors",
    )
    model = PagedModel(golden_models / "glm2_base", **ROOM)
    with pytest.raises(AdapterError, match=r"x: unexpected"):
        model.load_adapter(folder)
    save_file({"x": torch.zeros(2)}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"unexpected|missing"):
        model.load_adapter(folder)


def test_kinds(golden_models: Path, tmp_path: Path) -> None:
    assert read_adapter_config(golden_models / PEFT[0]).kind == "prefix-tuning"
    assert read_adapter_config(golden_models / "glm2_ptuning_proj").kind == "p-tuning-v2"
    copied = shutil.copytree(golden_models / PEFT[1], tmp_path / "copied")
    assert read_adapter_config(copied).kind == "prefix-tuning"
