"""Names of the tensors of one forward pass, shared by references, devices and reports.

A name is `layers.N.` and one of LAYER_TENSORS, or one of the others. Each tensor has a row for each
token. Shapes: T tokens, H hidden size, Hq query heads, Hkv key/value heads, D head dim, F ffn size,
V vocabulary.
"""

from __future__ import annotations

from glmserve.model_config import ModelConfig

LAYER_TENSORS = (
    "input",  # [T, H]: the residual stream before the layer
    "input_norm",  # [T, H]
    "qkv",  # [T, (Hq + 2*Hkv) * D]: all queries, all keys, all values, before rotation
    "query",  # [T, Hq, D], rotated
    "key",  # [T, Hkv, D], rotated, as in the KV cache
    "value",  # [T, Hkv, D]
    "attention",  # [T, Hq * D]
    "dense",  # [T, H]: attention's output projection
    "dense_norm",  # [T, H]; with sandwich norms only
    "middle",  # [T, H]: the residual stream between attention and MLP
    "post_norm",  # [T, H]
    "gate_up",  # [T, 2*F]; [T, F] without a gate
    "activation",  # [T, F]
    "down",  # [T, H]
    "down_norm",  # [T, H]; with sandwich norms only
)
"""In the order in which a layer computes them."""

EMBEDDING = "embedding"  # [T, H]
STREAM = "stream"  # [T, H]: the residual stream behind the last layer
FINAL_NORM = "final_norm"  # [T, H]
LOGITS = "logits"  # [T, V]


def layer_tensor(layer: int, kind: str) -> str:
    """The name of a tensor of a layer."""
    return f"layers.{layer}.{kind}"


def in_order(num_layers: int) -> list[str]:
    """All names, in the order in which a model computes them."""
    of_layers = (layer_tensor(i, kind) for i in range(num_layers) for kind in LAYER_TENSORS)
    return [EMBEDDING, *of_layers, STREAM, FINAL_NORM, LOGITS]


def tensor_widths(config: ModelConfig) -> dict[str, int]:
    """Numbers of each token in the tensors of a compiled graph, by the last part of the name."""
    hidden = config.hidden_size
    of_layers = ("input", "input_norm", "dense", "dense_norm", "middle", "post_norm", "down")
    of_hidden = ("embedding", *of_layers, "down_norm")
    return {
        **dict.fromkeys((*of_hidden, "stream", "final_norm"), hidden),
        "attention": config.num_heads * config.head_dim,
        "gate_up": 2 * config.ffn_size,
        "activation": config.ffn_size,
        "logits": config.vocab_size,
    }
