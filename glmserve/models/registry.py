"""The model class of each model_type, imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.models.adapter_slots import AdapterRoom
from glmserve.models.parameters import Parameters
from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.base import Ops
from glmserve.ops.collectives import ALONE, Collectives
from glmserve.ops.inputs import Inputs

_MODELS = {
    "chatglm-6b": "glmserve.models.chatglm_6b:ChatGlm6B",
    "chatglm": "glmserve.models.glm:Glm",
    "glm": "glmserve.models.glm:Glm",
    "glm4": "glmserve.models.glm:Glm",
}


CacheT = TypeVar("CacheT", contravariant=True)


class Model(Protocol[CacheT, Plan]):
    """The interface between a runner and a model. T tokens, O output rows, H hidden size, V
    vocabulary."""

    def forward(self, inputs: Inputs[Plan], caches: Sequence[CacheT]) -> Tensor | None:
        """Write K/V of all tokens to the caches, one per layer.

        Returns:
            Last hidden states of the output rows, [O, H]; None: a later stage has them.
        """
        ...

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """Logits of the token after each of the last hidden states [O, H]: float32 [O, V].

        Args:
            out: where to write them; None: a new tensor.
        """
        ...


def build_model(
    config: ModelConfig,
    parameters: Parameters,
    ops: Ops[Cache, Plan],
    max_context: int,
    collectives: Collectives = ALONE,
    adapters: AdapterRoom | None = None,
) -> Model[Cache, Plan]:
    """Build the model that `config` describes, or a rank's part of one.

    Args:
        parameters: linear weights packed for `ops`. The model takes them and empties the dict.
        max_context: positions of the rotary table.
        collectives: the ranks that compute the model together.
        adapters: room for them; None: the model has none.
    """
    module, _, name = _MODELS[config.model_type].partition(":")
    model: Model[Cache, Plan] = getattr(importlib.import_module(module), name)(
        config, parameters, ops, max_context, collectives, adapters
    )
    return model
