"""The tensors of a model that graphs can show."""

from __future__ import annotations

from glmserve.model_config import ModelConfig
from glmserve.runner.tensor_names import EMBEDDING, FINAL_NORM, STREAM, layer_tensor

_OF_LAYERS = (
    "input",
    "input_norm",
    "attention",
    "dense",
    "dense_norm",
    "middle",
    "post_norm",
    "gate_up",
    "activation",
    "down",
    "down_norm",
)
"""Queries and keys have another order of numbers in graphs."""
_SANDWICH = ("dense_norm", "down_norm")


def watched_tensors(config: ModelConfig) -> list[str]:
    """Their names, in the order in which a model computes them; of runner/tensor_names.py. Logits
    are no inner tensor, and not among them."""
    kinds = [kind for kind in _OF_LAYERS if config.sandwich_norms or kind not in _SANDWICH]
    layers = [layer_tensor(i, kind) for i in range(config.num_layers) for kind in kinds]
    last = [FINAL_NORM] if config.final_norm else []
    return [EMBEDDING, *layers, STREAM, *last]
