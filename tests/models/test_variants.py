"""Everything config.json can ask of the block, against an independent float64 reference."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from support.paged_model import Operations, PagedModel
from support.tiny_models import BASE, Config, random_weights, reference_logits, write_checkpoint

VARIANTS: dict[str, Config] = {
    "as ChatGLM2": {},
    "linear biases": {"add_bias_linear": True},
    "linear biases without add_qkv_bias": {"add_bias_linear": True, "add_qkv_bias": False},
    "no biases": {"add_qkv_bias": False},
    "LayerNorm": {"rmsnorm": False},
    "no final norm": {"post_layer_norm": False},
    "LayerNorm, normed residual, no final norm": {
        "rmsnorm": False,
        "apply_residual_connection_post_layernorm": True,
        "post_layer_norm": False,
    },
    "large epsilon": {"layernorm_epsilon": 0.1},
    "heads wider than hidden": {"kv_channels": 20},
    "heads narrower than hidden": {"kv_channels": 4},
    "one group": {"multi_query_group_num": 1},
    "as many groups as heads": {"multi_query_group_num": 4},
    "rows per head": {"multi_query_attention": False},
    "rows per head, all biases": {"multi_query_attention": False, "add_bias_linear": True},
    "three heads per group": {"num_attention_heads": 6, "multi_query_group_num": 2},
    "one head": {"num_attention_heads": 1, "multi_query_group_num": 1},
    "one layer": {"num_layers": 1},
    "tied embeddings, which this format never has": {"tie_word_embeddings": True},
    "divided positions": {"rope_ratio": 8.0},
    "stretched base": {"rope_ratio": 50.0, "_name_or_path": "THUDM/chatglm3-6b-32k"},
}

IDS = np.random.default_rng(7).integers(0, BASE["padded_vocab_size"], 40).tolist()


def assert_like_reference(folder: Path, config: Config, seed: int, **options: Any) -> None:
    weights = random_weights(config, seed)
    want = reference_logits(config, weights, IDS)
    # float32 against float64: rounding grows with the logits; a mistake is off by 0.1 and more.
    atol = 1e-4 * max(5.0, np.abs(want).max())
    model = PagedModel(write_checkpoint(folder, config, weights), **options)
    for chunk in (None, 1, 11):
        np.testing.assert_allclose(model.logits(IDS, chunk), want, rtol=0, atol=atol)
    together = [model.sequence(40) for _ in range(3)]
    cuts = [0, 1, 13, 14, 30, 40]
    for first, last in pairwise(cuts):
        for got in model.feed(*((s, IDS[first:last]) for s in together)):
            np.testing.assert_allclose(got, want[first:last], rtol=0, atol=atol)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("operations", ["packed", "native"])
def test_variant(tmp_path: Path, name: str, operations: Operations) -> None:
    assert_like_reference(tmp_path, {**BASE, **VARIANTS[name]}, seed=1, operations=operations)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    groups = draw(st.sampled_from([1, 2, 3]))
    return {
        **BASE,
        "_name_or_path": draw(st.sampled_from(["THUDM/chatglm2-6b", "THUDM/glm-4-9b"])),
        "multi_query_group_num": groups,
        "num_attention_heads": groups * draw(st.sampled_from([1, 2, 3])),
        "multi_query_attention": draw(st.booleans()),
        "kv_channels": draw(st.sampled_from([4, 8, 12, 16, 24])),
        "hidden_size": draw(st.sampled_from([8, 18, 32, 48])),
        "ffn_hidden_size": draw(st.sampled_from([8, 20, 33])),
        "num_layers": draw(st.integers(1, 3)),
        "rope_ratio": draw(st.sampled_from([1.0, 4.0, 500.0])),
        "layernorm_epsilon": draw(st.sampled_from([1e-5, 1.5625e-07, 0.01])),
        **{
            key: draw(st.booleans())
            for key in (
                "rmsnorm",
                "post_layer_norm",
                "add_qkv_bias",
                "add_bias_linear",
                "apply_residual_connection_post_layernorm",
                "tie_word_embeddings",
            )
        },
    }


@given(
    config=configs(),
    seed=st.integers(0, 2**16),
    block_size=st.sampled_from([1, 3, 16, 32]),
    operations=st.sampled_from(["plain", "packed", "native"]),
)
@hypothesis_settings(max_examples=30)
def test_any_combination(
    tmp_path_factory: pytest.TempPathFactory,
    config: Config,
    seed: int,
    block_size: int,
    operations: Operations,
) -> None:
    assert_like_reference(
        tmp_path_factory.mktemp("model"),
        config,
        seed,
        block_size=block_size,
        num_blocks=6 * (40 // block_size + 1),
        operations=operations,
    )
