"""Reads the weights of a LoRA adapter, as changes of a model's canonical modules."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.adapters import LoraConfig, weights_file
from glmserve.adapters.config import as_adapter_errors
from glmserve.model_config import ModelConfig
from glmserve.models.checkpoint_files import read_tensors
from glmserve.models.lora_tensors import LoraTensors, TrainedModule
from glmserve.models.parameters import parameter_shapes

MERGE = "; `glmserve convert --merge-adapter` can merge it into its model"


class ModuleLora(NamedTuple):
    """What an adapter does to a canonical module [N, K] of the whole model. Numbers are float32."""

    a: Tensor
    """[R, K]"""
    b: Tensor
    """[N, R], with the scale in it."""
    bias: Tensor | None
    """[N]: B's own bias, with the scale in it."""
    magnitudes: Tensor | None
    """[N]: lengths of the rows of the changed weight, of DoRA. NaN: the row keeps its length."""


class WholeLora(NamedTuple):
    """A whole adapter."""

    modules: dict[str, ModuleLora]
    """By canonical name, "layers.3.qkv"."""
    biases: dict[str, Tensor]
    """Trained values of the model's own biases, float32 [N] by canonical name, "layers.3.qkv.bias".
    NaN: the model's number stays."""

    @property
    def has_effect(self) -> bool:
        """Whether it may change anything: after training, some number of each B is not 0."""
        return bool(self.biases) or any(
            bool((m.a.any() and m.b.any()) or m.magnitudes is not None)
            or (m.bias is not None and bool(m.bias.any()))
            for m in self.modules.values()
        )


def read_lora_weights(lora: LoraConfig, model: ModelConfig) -> WholeLora:
    """Read an adapter for a model.

    Args:
        model: the whole one.

    Raises:
        AdapterError: a file is damaged; a tensor is missing, of another shape, not finite, or not
            used; the message names it.
    """
    path = weights_file(lora.folder)
    tensors = LoraTensors(path, lora, model)
    with as_adapter_errors():
        for name, tensor in read_tensors(path):
            tensors.add(name, tensor)
    tensors.check()
    parts: dict[str, dict[str, TrainedModule]] = defaultdict(dict)
    for name, module in tensors.modules.items():
        parts[f"layers.{module.layer}.{module.target.module}"][name] = module
    shapes = parameter_shapes(model)
    modules = {
        canonical: _join(found, shapes[f"{canonical}.weight"][0], lora, tensors)
        for canonical, found in parts.items()
    }
    return WholeLora(modules, tensors.biases)


def _join(
    found: dict[str, TrainedModule], rows: int, lora: LoraConfig, tensors: LoraTensors
) -> ModuleLora:
    """One A and B of what may be several modules for the trainer, each with its own ranks.

    Args:
        rows: of the canonical module.
    """
    a = torch.cat([module.tensors["lora_A.weight"] for module in found.values()])
    b = torch.zeros(rows, len(a))
    bias = torch.zeros(rows) if lora.bias_of_b else None
    magnitudes = torch.full((rows,), torch.nan) if lora.magnitudes else None
    taken = torch.zeros(rows, dtype=torch.bool)
    first = 0
    for name, (_, _, target, parts) in found.items():
        own = slice(target.first_row, target.first_row + target.rows)
        if taken[own].any():
            raise tensors.refusal(name, "another module of the adapter changes the same rows")
        taken[own] = True
        rank, scale = len(parts["lora_A.weight"]), lora.scale_of(name)
        target.place(parts["lora_B.weight"] * scale, b[:, first : first + rank])
        if bias is not None:
            target.place(parts["lora_B.bias"] * scale, bias)
        if magnitudes is not None:
            target.place(parts["lora_magnitude_vector.weight"], magnitudes)
        first += rank
    return ModuleLora(a, b, bias, magnitudes)
