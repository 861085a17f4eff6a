"""Where each tensor of a checkpoint belongs: stored names and layouts to canonical parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.models.parameters import Shape, stored_parameters


@dataclass(frozen=True, slots=True)
class Placement:
    """A stored tensor is some rows of one parameter."""

    parameter: str
    first_row: int
    shape: Shape
    """What must be stored."""
    heads: int = 0
    """Non-zero: the rows are [q k v] head by head, to be sorted into all q, all k, all v."""
    optional: bool = False
    """Need not be stored."""
    dtype: torch.dtype | None = None
    """What must be stored; None: any floating point numbers."""

    def copy(self, stored: Tensor, parameter: Tensor) -> None:
        """Write `stored` into its rows, cast on the way."""
        rows = parameter.narrow(0, self.first_row, self.shape[0])
        if self.heads:
            columns = self.shape[1:]
            rows = rows.view(3, self.heads, -1, *columns)
            stored = stored.view(self.heads, 3, -1, *columns).transpose(0, 1)
        rows.copy_(stored)


def placements(config: ModelConfig) -> dict[str, Placement]:
    """Stored name to placement, for every tensor that the checkpoint may hold.

    An output layer that is stored in spite of tied embeddings is used, as transformers does.
    """
    if config.model_type == "chatglm":
        return _thudm_placements(config)
    found = _hf_placements(config)
    if config.tied_embeddings:
        shape = (config.vocab_size, config.hidden_size)
        found["lm_head.weight"] = Placement("output.weight", 0, shape, optional=True)
    return found


def is_ignorable(name: str) -> bool:
    """Rotary frequencies that older code saved as a buffer; they are computed, never loaded."""
    return name.endswith(".inv_freq")


_THUDM_NAMES = {
    "embedding": "transformer.embedding.word_embeddings",
    "input_norm": "input_layernorm",
    "qkv": "self_attention.query_key_value",
    "dense": "self_attention.dense",
    "post_norm": "post_attention_layernorm",
    "gate_up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
    "final_norm": "transformer.encoder.final_layernorm",
    "output": "transformer.output_layer",
}

_KINDS = {"codes": "weight", "scales": "weight_scale"}

_HF_NAMES = {
    "embedding": "model.embed_tokens",
    "input_norm": "input_layernorm",
    "dense": "self_attn.o_proj",
    "post_norm": "post_attention_layernorm",
    "gate_up": "mlp.gate_up_proj",
    "down": "mlp.down_proj",
    "final_norm": "model.norm",
    "output": "lm_head",
}


def _thudm_placements(config: ModelConfig) -> dict[str, Placement]:
    """THUDM's own format: one stored tensor per parameter."""
    found = {}
    for parameter, stored in stored_parameters(config).items():
        layer, module, kind = _split(parameter)
        name = f"{_THUDM_NAMES[module]}.{_KINDS.get(kind, kind)}"
        prefix = "" if layer is None else f"transformer.encoder.layers.{layer}."
        heads = config.num_heads if module == "qkv" and config.qkv_per_head else 0
        found[prefix + name] = Placement(parameter, 0, stored.shape, heads, dtype=stored.dtype)
    return found


def _hf_placements(config: ModelConfig) -> dict[str, Placement]:
    """transformers' in-tree Glm: queries, keys and values are stored apart."""
    found = {}
    for parameter, stored in stored_parameters(config).items():
        layer, module, kind = _split(parameter)
        kind = _KINDS.get(kind, kind)
        prefix = "" if layer is None else f"model.layers.{layer}."
        if module != "qkv":
            placement = Placement(parameter, 0, stored.shape, dtype=stored.dtype)
            found[f"{prefix}{_HF_NAMES[module]}.{kind}"] = placement
            continue
        row = 0
        for letter, heads in (
            ("q", config.num_heads),
            ("k", config.num_kv_heads),
            ("v", config.num_kv_heads),
        ):
            part = (heads * config.head_dim, *stored.shape[1:])
            placement = Placement(parameter, row, part, dtype=stored.dtype)
            found[f"{prefix}self_attn.{letter}_proj.{kind}"] = placement
            row += part[0]
    return found


def _split(parameter: str) -> tuple[str | None, str, str]:
    """("3", "qkv", "bias") of "layers.3.qkv.bias"; the layer is None outside the layers."""
    *layers, module, kind = parameter.split(".")
    return (layers[1] if layers else None), module, kind
