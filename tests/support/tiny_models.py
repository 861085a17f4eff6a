"""Tiny random checkpoints in THUDM's format, and a slow reference to hold the model against.

The reference is written from the published architecture and shares nothing with glmserve: whole
sequence, no cache, numpy float64, original parameter names and config.json keys.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

Array = NDArray[np.float64]
Config = dict[str, Any]

BASE: Config = {
    "_name_or_path": "THUDM/chatglm2-6b",
    "model_type": "chatglm",
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_residual_connection_post_layernorm": False,
    "ffn_hidden_size": 40,
    "hidden_size": 32,
    "kv_channels": 8,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 4,
    "num_layers": 2,
    "padded_vocab_size": 48,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 256,
    "torch_dtype": "float32",
    "eos_token_id": 2,
}


def stored_shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor that a checkpoint with this config.json holds."""
    hidden, ffn, vocab = c["hidden_size"], c["ffn_hidden_size"], c["padded_vocab_size"]
    queries = c["num_attention_heads"] * c["kv_channels"]
    groups = c["multi_query_group_num"] if c["multi_query_attention"] else c["num_attention_heads"]
    qkv = queries + 2 * groups * c["kv_channels"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (vocab, hidden)
    }
    norms = []
    for i in range(c["num_layers"]):
        layer = f"transformer.encoder.layers.{i}."
        shapes[layer + "self_attention.query_key_value.weight"] = (qkv, hidden)
        shapes[layer + "self_attention.dense.weight"] = (hidden, queries)
        shapes[layer + "mlp.dense_h_to_4h.weight"] = (2 * ffn, hidden)
        shapes[layer + "mlp.dense_4h_to_h.weight"] = (hidden, ffn)
        if c["add_bias_linear"] or c["add_qkv_bias"]:
            shapes[layer + "self_attention.query_key_value.bias"] = (qkv,)
        if c["add_bias_linear"]:
            shapes[layer + "self_attention.dense.bias"] = (hidden,)
            shapes[layer + "mlp.dense_h_to_4h.bias"] = (2 * ffn,)
            shapes[layer + "mlp.dense_4h_to_h.bias"] = (hidden,)
        norms += [layer + "input_layernorm", layer + "post_attention_layernorm"]
    if c["post_layer_norm"]:
        norms.append("transformer.encoder.final_layernorm")
    for norm in norms:
        shapes[norm + ".weight"] = (hidden,)
        if not c["rmsnorm"]:
            shapes[norm + ".bias"] = (hidden,)
    shapes["transformer.output_layer.weight"] = (vocab, hidden)
    return shapes


def random_weights(c: Config, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights large enough that every part of the block moves the logits."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in stored_shapes(c).items():
        values = rng.normal(size=shape)
        if "layernorm.weight" in name:
            values = 1.0 + 0.3 * values
        elif name.endswith("bias"):
            values = 0.3 * values
        else:
            values = values * 1.5 / np.sqrt(shape[-1])
        weights[name] = torch.from_numpy(values).float()
    return weights


def write_checkpoint(folder: Path, c: Config, weights: dict[str, torch.Tensor]) -> Path:
    """config.json and one model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(c))
    save_file(weights, folder / "model.safetensors")
    return folder


def reference_logits(c: Config, weights: dict[str, torch.Tensor], ids: list[int]) -> Array:
    """[len(ids), vocab]: row t predicts token t + 1."""
    w = {name: tensor.double().numpy() for name, tensor in weights.items()}
    hidden = w["transformer.embedding.word_embeddings.weight"][ids]
    post_norm = c["apply_residual_connection_post_layernorm"]
    for i in range(c["num_layers"]):
        layer = f"transformer.encoder.layers.{i}."
        normed = _norm(c, w, layer + "input_layernorm", hidden)
        attended = _attention(c, w, layer + "self_attention.", normed)
        hidden = (normed if post_norm else hidden) + attended
        normed = _norm(c, w, layer + "post_attention_layernorm", hidden)
        gate, up = np.split(_linear(w, layer + "mlp.dense_h_to_4h", normed), 2, axis=-1)
        out = _linear(w, layer + "mlp.dense_4h_to_h", gate / (1 + np.exp(-gate)) * up)
        hidden = (normed if post_norm else hidden) + out
    if c["post_layer_norm"]:
        hidden = _norm(c, w, "transformer.encoder.final_layernorm", hidden)
    return hidden @ w["transformer.output_layer.weight"].T


def _linear(w: dict[str, Array], name: str, x: Array) -> Array:
    return x @ w[name + ".weight"].T + w.get(name + ".bias", np.float64(0))


def _norm(c: Config, w: dict[str, Array], name: str, x: Array) -> Array:
    if c["rmsnorm"]:
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + c["layernorm_epsilon"])
        return x / scale * w[name + ".weight"]
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred * centred).mean(-1, keepdims=True) + c["layernorm_epsilon"])
    return centred / scale * w[name + ".weight"] + w[name + ".bias"]


def _attention(c: Config, w: dict[str, Array], prefix: str, x: Array) -> Array:
    heads, dim, length = c["num_attention_heads"], c["kv_channels"], len(x)
    qkv = _linear(w, prefix + "query_key_value", x)
    if c["multi_query_attention"]:
        groups = c["multi_query_group_num"]
        cut = [heads * dim, (heads + groups) * dim]
        q, k, v = (part.reshape(length, -1, dim) for part in np.split(qkv, cut, axis=-1))
    else:
        groups = heads
        q, k, v = np.split(qkv.reshape(length, heads, 3 * dim), 3, axis=-1)
    q, k = _rotate(c, q), _rotate(c, k)
    out = np.empty_like(q)
    for head in range(heads):
        group = head // (heads // groups)
        for t in range(length):
            scores = k[: t + 1, group] @ q[t, head] / np.sqrt(dim)
            weights = np.exp(scores - scores.max())
            out[t, head] = weights / weights.sum() @ v[: t + 1, group]
    return _linear(w, prefix + "dense", out.reshape(length, heads * dim))


def _rotate(c: Config, x: Array) -> Array:
    """x [L, heads, dim]; rope_ratio divides positions for ChatGLM2, else multiplies the base."""
    ratio, base, divisor = c.get("rope_ratio", 1.0), 10000.0, 1.0
    if "chatglm2" in c["_name_or_path"]:
        divisor = ratio
    else:
        base *= ratio
    rotary = c["kv_channels"] // 2
    out = x.copy()
    for i in range(0, rotary, 2):
        angle = (np.arange(len(x)) / divisor / base ** (i / rotary))[:, None]
        a, b = x[..., i], x[..., i + 1]
        out[..., i] = a * np.cos(angle) - b * np.sin(angle)
        out[..., i + 1] = a * np.sin(angle) + b * np.cos(angle)
    return out
