"""transformers' own GlmForCausalLM: what it saves, we load and compute alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from support.paged_model import PagedModel
from support.ranks import on_ranks

transformers = pytest.importorskip("transformers")

VARIANTS: dict[str, dict[str, Any]] = {
    "GLM-4-9B-hf in miniature": {},
    "no attention bias": {"attention_bias": False},
    "tied embeddings": {"tie_word_embeddings": True},
    "head_dim apart from hidden": {"head_dim": 24},
    "as many key/value heads as heads": {"num_key_value_heads": 6},
    "one key/value head": {"num_key_value_heads": 1},
    "other rotary base": {"rope_parameters": {"rope_type": "default", "rope_theta": 123456.0}},
    "whole head rotates": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 1.0,
        }
    },
}


OPTIONS: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "attention_bias": True,
    "pad_token_id": 0,
    "eos_token_id": [1, 2],
    "max_position_embeddings": 128,
}


def original_model(**options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    original = transformers.GlmForCausalLM(transformers.GlmConfig(**{**OPTIONS, **options})).eval()
    with torch.no_grad():
        for parameter in original.parameters():  # the initial deviation of 0.02 hides mistakes
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.copy_(torch.randn_like(parameter) * 1.5 * spread + (parameter.ndim == 1))
    return original


def assert_alike(checkpoint: Path, original: torch.nn.Module) -> None:
    ids = torch.randint(0, 64, (50,))
    with torch.inference_mode():
        want = original(ids[None]).logits[0].numpy()
    model = PagedModel(checkpoint)
    for chunk in (None, 1, 16):
        np.testing.assert_allclose(model.logits(ids.tolist(), chunk), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("sharded", [False, True])
def test_variant(tmp_path: Path, name: str, sharded: bool) -> None:
    original = original_model(**VARIANTS[name])
    original.save_pretrained(tmp_path, max_shard_size="40KB" if sharded else "1GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == sharded
    assert_alike(tmp_path, original)


def test_output_layer_stored_in_spite_of_tied_embeddings(tmp_path: Path) -> None:
    original_model(tie_word_embeddings=True).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = torch.randn(64, 48)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_alike(tmp_path, transformers.GlmForCausalLM.from_pretrained(tmp_path).eval())


@pytest.mark.parametrize("name", ["tied embeddings", "one key/value head"])
def test_two_ranks(tmp_path: Path, name: str) -> None:
    original = original_model(**VARIANTS[name])
    original.save_pretrained(tmp_path)
    ids = torch.randint(0, 64, (50,))
    with torch.inference_mode():
        want = original(ids[None]).logits[0].numpy()
    for got in on_ranks(2, lambda c: PagedModel(tmp_path, collectives=c).logits(ids.tolist())):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
