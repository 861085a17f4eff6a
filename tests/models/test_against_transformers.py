"""transformers' own Glm and Glm4 classes: what they save, we load and compute alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from glmserve.config import Quantization
from glmserve.models.parameters import int4_group
from glmserve.ops.linear.quantized import quantize
from support.exhaustive import exhaustive
from support.golden import ATOL
from support.paged_model import Operations, PagedModel
from support.ranks import on_ranks
from support.slow import slow

transformers = pytest.importorskip("transformers")

YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
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
    "linear scaling": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    },
    "YaRN": {"rope_parameters": YARN},
    "YaRN without truncation": {
        "rope_parameters": {**YARN, "truncate": False, "beta_fast": 4.0, "attention_factor": 1.5}
    },
    "GLM-Edge in miniature": {
        "attention_bias": False,
        "head_dim": 16,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 1.0,
        },
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


KINDS = ("Glm", "Glm4")
"""Without and with sandwich norms."""


def original_model(kind: str = "Glm", **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**OPTIONS, **options})
    original = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
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
@pytest.mark.parametrize(
    ("kind", "sharded"), [("Glm", True), ("Glm4", False), exhaustive("Glm", False)]
)
def test_variant(tmp_path: Path, name: str, kind: str, sharded: bool) -> None:
    original = original_model(kind, **VARIANTS[name])
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
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks(tmp_path: Path, name: str, kind: str) -> None:
    original = original_model(kind, **VARIANTS[name])
    original.save_pretrained(tmp_path)
    ids = torch.randint(0, 64, (50,))
    with torch.inference_mode():
        want = original(ids[None]).logits[0].numpy()
    for got in on_ranks(2, lambda c: PagedModel(tmp_path, collectives=c).logits(ids.tolist())):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def rounded(original: torch.nn.Module, bits: Literal[4, 8]) -> torch.nn.Module:
    """The model with the numbers that quantised weights stand for."""
    with torch.no_grad():
        for name, module in original.named_modules():
            if isinstance(module, torch.nn.Linear):
                own = 8 if name == "lm_head" else bits
                group = int4_group(module.in_features) if own == 4 else None
                weight = quantize(module.weight.detach(), own, group)
                module.weight.copy_(weight.dequantized(torch.float32))
    return original


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("quantization", "bits"), [("int8", 8), ("int4", 4)])
@pytest.mark.parametrize("operations", ["native", "ascend"])
def test_quantised_while_loading(
    tmp_path: Path,
    kind: str,
    quantization: Quantization,
    bits: Literal[4, 8],
    operations: Operations,
) -> None:
    original = original_model(kind)
    original.save_pretrained(tmp_path)
    ids = torch.randint(0, 64, (50,))
    with torch.inference_mode():
        want = rounded(original, bits)(ids[None]).logits[0].numpy()
    options: Any = {"operations": operations, "quantization": quantization, "num_blocks": 16}
    got = PagedModel(tmp_path, **options).logits(ids.tolist(), 16)
    np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", KINDS)
def test_rounded_activations(tmp_path: Path, kind: str) -> None:
    """w8a8 rounds activations as well, which changes more than the order of a sum does."""
    original = original_model(kind)
    original.save_pretrained(tmp_path)
    ids = torch.randint(0, 64, (50,))
    with torch.inference_mode():
        want = rounded(original, 8)(ids[None]).logits[0].numpy()
    got = PagedModel(tmp_path, operations="native", quantization="w8a8").logits(ids.tolist(), 16)
    assert np.linalg.norm(got - want) < 0.05 * np.linalg.norm(want)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text(tmp_path: Path, kind: str) -> None:
    original: Any = original_model(kind)
    original.save_pretrained(tmp_path)
    prompt = torch.randint(3, 64, (1, 9))
    with torch.inference_mode():
        whole = original.generate(prompt, max_new_tokens=24, do_sample=False, eos_token_id=None)
    ids = whole[0].tolist()
    logits = PagedModel(tmp_path).logits(ids, 5)
    assert logits.argmax(-1)[8:-1].tolist() == ids[9:]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Glm", "GLM-Edge in miniature"),
        ("Glm4", "YaRN"),
        exhaustive("Glm4", "head_dim apart from hidden"),
    ],
)
@pytest.mark.parametrize("operations", ["native", "ascend", slow("triton")])
def test_operations(tmp_path: Path, kind: str, name: str, operations: Operations) -> None:
    original = original_model(kind, **VARIANTS[name])
    original.save_pretrained(tmp_path)
    ids = torch.randint(0, 64, (20,))
    with torch.inference_mode():
        want = original(ids[None]).logits[0].numpy()
    model = PagedModel(tmp_path, operations=operations, num_blocks=16)
    np.testing.assert_allclose(model.logits(ids.tolist(), 16), want, rtol=0, atol=ATOL)
