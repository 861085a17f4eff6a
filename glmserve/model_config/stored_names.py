"""Names that THUDM's checkpoints have for the parts of a layer."""

from __future__ import annotations

LAYERS = "transformer.encoder.layers"
OUTPUT = "transformer.output_layer"

LAYER_MODULES = {
    "input_norm": "input_layernorm",
    "qkv": "self_attention.query_key_value",
    "dense": "self_attention.dense",
    "post_norm": "post_attention_layernorm",
    "gate_up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
}
"""Canonical name of a layer's module to its stored name, since the second generation."""
