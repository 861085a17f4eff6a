"""Tiny random checkpoints in THUDM's format, one for each kind of block in the family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from glmserve.model_config import read_model_config
from glmserve.models.names import placements

Config = dict[str, Any]

BASE: Config = {
    "_name_or_path": "THUDM/chatglm2-6b",
    "model_type": "chatglm",
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_residual_connection_post_layernorm": False,
    "ffn_hidden_size": 96,
    "hidden_size": 64,
    "kv_channels": 16,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 4,
    "num_layers": 2,
    "padded_vocab_size": 160,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 512,
    "torch_dtype": "float32",
    "eos_token_id": 2,
}
FIRST_GENERATION: Config = {
    "_name_or_path": "THUDM/chatglm-6b",
    "model_type": "chatglm",
    "position_encoding_2d": True,
    "hidden_size": 64,
    "inner_hidden_size": 96,
    "num_attention_heads": 4,
    "num_layers": 2,
    "layernorm_epsilon": 1e-5,
    "max_sequence_length": 512,
    "vocab_size": 160,
    "bos_token_id": 154,
    "eos_token_id": 155,
    "mask_token_id": 150,
    "gmask_token_id": 151,
    "pad_token_id": 3,
    "torch_dtype": "float32",
}

VARIANTS: dict[str, Config] = {
    "base": BASE,
    "one group": BASE | {"multi_query_group_num": 1},
    "as many groups as heads": BASE | {"multi_query_attention": False},
    "three heads per group": BASE | {"num_attention_heads": 6},
    "odd sizes": BASE | {"hidden_size": 40, "ffn_hidden_size": 56, "padded_vocab_size": 131},
    "heads of 8": BASE | {"kv_channels": 8},
    "heads of 128": BASE | {"kv_channels": 128, "num_layers": 1},
    "no biases": BASE | {"add_qkv_bias": False},
    "linear biases": BASE | {"add_bias_linear": True},
    "LayerNorm": BASE | {"rmsnorm": False},
    "normed residual": BASE | {"apply_residual_connection_post_layernorm": True},
    "no final norm": BASE | {"post_layer_norm": False},
    "large epsilon": BASE | {"layernorm_epsilon": 0.1},
    "divided positions": BASE | {"rope_ratio": 8.0},
    "stretched base": BASE | {"rope_ratio": 50.0, "_name_or_path": "THUDM/chatglm3-6b-32k"},
    "ChatGLM-6B": FIRST_GENERATION,
}
"""config.json of each kind."""

NAN_TOKEN = 7
"""The id that `write_checkpoint(..., nan_token=True)` gives an embedding of NaN."""


def write_checkpoint(
    folder: Path, config: Config, *, seed: int = 0, nan_token: bool = False
) -> Path:
    """Write config.json and random weights, large enough that every part moves the logits.

    Args:
        nan_token: the embedding of NAN_TOKEN is NaN.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, placement in placements(read_model_config(folder)).items():
        values = torch.randn(placement.shape, generator=generator)
        if len(placement.shape) > 1:
            values *= 1.5 * placement.shape[-1] ** -0.5
        else:
            values = 0.3 * values + (1.0 if name.endswith("layernorm.weight") else 0.0)
        if nan_token and "embedding" in name:
            values[NAN_TOKEN] = torch.nan
        weights[name] = values
    save_file(weights, folder / "model.safetensors")
    return folder
