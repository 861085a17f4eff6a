"""Names and shapes of a model's parameters, whatever the checkpoint calls them."""

from __future__ import annotations

import math

from torch import Tensor

from glmserve.model_config import ModelConfig

Parameters = dict[str, Tensor]
"""Canonical name to tensor."""

Shape = tuple[int, ...]


def parameter_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Every parameter of the model.

    `output.weight` is absent with tied embeddings; `qkv` rows are all query heads, all key heads,
    all value heads; `gate_up` rows are the gate, then the up projection.
    """
    hidden = config.hidden_size
    shapes: dict[str, Shape] = {"embedding.weight": (config.vocab_size, hidden)}
    for i in range(config.num_layers):
        for name, shape in _layer_shapes(config).items():
            shapes[f"layers.{i}.{name}"] = shape
    if config.final_norm:
        shapes |= _norm_shapes(config, "final_norm")
    if not config.tied_embeddings:
        shapes["output.weight"] = (config.vocab_size, hidden)
    return shapes


def count_parameters(config: ModelConfig) -> int:
    """Numbers in all parameters together."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def _layer_shapes(config: ModelConfig) -> dict[str, Shape]:
    hidden, queries = config.hidden_size, config.num_heads * config.head_dim
    key_values = 2 * config.num_kv_heads * config.head_dim
    return {
        **_norm_shapes(config, "input_norm"),
        **_linear_shapes("qkv", queries + key_values, hidden, bias=config.qkv_bias),
        **_linear_shapes("dense", hidden, queries, bias=config.linear_bias),
        **_norm_shapes(config, "post_norm"),
        **_linear_shapes("gate_up", 2 * config.ffn_size, hidden, bias=config.linear_bias),
        **_linear_shapes("down", hidden, config.ffn_size, bias=config.linear_bias),
    }


def _linear_shapes(name: str, rows: int, columns: int, *, bias: bool) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{name}.weight": (rows, columns)}
    if bias:
        shapes[f"{name}.bias"] = (rows,)
    return shapes


def _norm_shapes(config: ModelConfig, name: str) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{name}.weight": (config.hidden_size,)}
    if config.norm == "layernorm":
        shapes[f"{name}.bias"] = (config.hidden_size,)
    return shapes
