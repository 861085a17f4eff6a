"""Which class runs which model_type, imported only when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.models.parameters import Parameters
from glmserve.ops.attention import LayerCache
from glmserve.ops.base import Ops
from glmserve.ops.inputs import Inputs

_MODELS = {
    "chatglm-6b": "glmserve.models.chatglm_6b:ChatGlm6B",
    "chatglm": "glmserve.models.glm:Glm",
    "glm": "glmserve.models.glm:Glm",
}


class Model(Protocol):
    """What a TorchRunner runs."""

    def forward(self, inputs: Inputs, caches: Sequence[LayerCache]) -> Tensor:
        """Write K/V of all tokens to the cache; last hidden states of the output rows, [O, H]."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """What comes next after each of the last hidden states [O, H]: float32 [O, V]."""
        ...


def build_model(config: ModelConfig, parameters: Parameters, ops: Ops, max_context: int) -> Model:
    """Build the model that `config` describes; takes `parameters` over and empties it."""
    module, _, name = _MODELS[config.model_type].partition(":")
    model: Model = getattr(importlib.import_module(module), name)(
        config, parameters, ops, max_context
    )
    return model
