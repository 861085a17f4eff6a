"""Collects and checks the tensors of a LoRA adapter.

Every tensor is used, or the adapter is refused by the tensor's name.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.adapters import LoraConfig
from glmserve.errors import AdapterError
from glmserve.model_config import ModelConfig
from glmserve.models.finite import all_finite
from glmserve.models.lora_names import (
    LoraName,
    Target,
    layer_module,
    lora_targets,
    parse_lora_name,
    trained_name,
)
from glmserve.models.names import placements
from glmserve.models.parameters import parameter_shapes


class TrainedModule(NamedTuple):
    """A trainer's module and its tensors so far."""

    layer: int
    suffix: str
    """Name within the layer."""
    target: Target
    tensors: dict[str, Tensor]
    """float32 by part and kind: "lora_A.weight"."""


class LoraTensors:
    """The tensors of an adapter, by the modules that its trainer knows.

    Args:
        path: of the file, for messages.
        model: the whole one.
    """

    def __init__(self, path: Path, lora: LoraConfig, model: ModelConfig) -> None:
        self._path = path
        self._lora = lora
        self._model = model
        self._targets = lora_targets(model)
        self._placements = placements(model)
        self._shapes = parameter_shapes(model)
        self.modules: dict[str, TrainedModule] = {}
        """By the name in the trained model, which the patterns of adapter_config.json match."""
        self.biases: dict[str, Tensor] = {}
        """See WholeLora."""
        self._adapter: str | None = None

    def add(self, name: str, tensor: Tensor) -> None:
        """Note a tensor.

        Raises:
            AdapterError: it cannot be used; see `read_lora_weights`.
        """
        if not tensor.is_floating_point():
            raise self.refusal(name, f"expected floating point numbers, found {tensor.dtype}")
        numbers = tensor.float()
        if not all_finite(numbers):
            raise self.refusal(name, "holds numbers that are not finite")
        parsed = parse_lora_name(name)
        if parsed is None:
            self._add_bias(name, numbers)
            return
        if self._adapter not in (None, parsed.adapter):
            raise self.refusal(name, f"of a second adapter; this one is {self._adapter!r}")
        self._adapter = parsed.adapter
        module, part = self._module(name, parsed), f"{parsed.part}.{parsed.kind}"
        if part in module.tensors:
            raise self.refusal(name, "stored a second time")
        module.tensors[part] = numbers

    def check(self) -> None:
        """Check that everything is there, and has the right shape.

        Raises:
            AdapterError: see `read_lora_weights`.
        """
        if not self.modules:
            raise AdapterError(f"{self._path}: holds no LoRA weights")
        self._check_complete()
        for name, module in self.modules.items():
            self._check_module(name, module)

    def refusal(self, name: str, why: str) -> AdapterError:
        """The error that names a tensor or a module."""
        return AdapterError(f"{self._path}: {name[:300]}: {why}")

    def _module(self, name: str, parsed: LoraName) -> TrainedModule:
        known = self.modules.get(parsed.module)
        if known is not None:
            return known
        place = layer_module(parsed.module)
        if place is None:
            raise self.refusal(name, "only linear modules of layers are served with adapters")
        layer, suffix = place
        if layer >= self._model.num_layers:
            raise self.refusal(name, f"the model has {self._model.num_layers} layers")
        if suffix not in self._targets:
            raise self.refusal(
                name, f"the model has no such module; it has {', '.join(self._targets)}"
            )
        if not self._lora.selection.includes(parsed.module):
            raise self.refusal(name, "adapter_config.json does not name this module")
        module = TrainedModule(layer, suffix, self._targets[suffix], {})
        modelslim = self._model.modelslim
        if modelslim is not None and f"layers.{layer}.{module.target.module}" in modelslim.smoothed:
            raise self.refusal(
                name,
                f"{modelslim.description.name} says that inputs of this module are smoothed, and "
                "the adapter was trained without that; merge it before the model is quantised",
            )
        self.modules[parsed.module] = module
        return module

    def _add_bias(self, name: str, numbers: Tensor) -> None:
        """Note a trained bias of the model."""
        own = trained_name(name).replace(".base_layer.", ".")
        placement = self._placements.get(own)
        if self._lora.bias == "none" or not own.endswith(".bias") or placement is None:
            raise self.refusal(name, _why_unknown(name))
        if numbers.shape != placement.shape:
            raise self._wrong_shape(name, numbers, placement.shape)
        parameter = placement.parameter
        whole = self.biases.get(parameter)
        if whole is None:
            whole = torch.full(self._shapes[parameter], torch.nan)
            self.biases[parameter] = whole
        placement.copy(numbers, whole)

    def _check_complete(self) -> None:
        """Check that each module of the model that adapter_config.json names has tensors."""
        suffixes = {module.suffix for module in self.modules.values()}
        head, _, _ = next(iter(self.modules)).partition("layers.")
        for layer in range(self._model.num_layers):
            for suffix in _expected(self._targets, suffixes):
                module = f"{head}layers.{layer}.{suffix}"
                if module not in self.modules and self._lora.selection.includes(module):
                    raise self.refusal(
                        module, "has no tensors, but adapter_config.json names this module"
                    )

    def _check_module(self, name: str, module: TrainedModule) -> None:
        rank, target = self._lora.rank_of(name), module.target
        wanted: dict[str, tuple[int, ...]] = {
            "lora_A.weight": (rank, target.columns),
            "lora_B.weight": (target.rows, rank),
        }
        if self._lora.bias_of_b:
            wanted["lora_B.bias"] = (target.rows,)
        if self._lora.magnitudes:
            wanted["lora_magnitude_vector.weight"] = (target.rows,)
        for part, tensor in module.tensors.items():
            if part not in wanted:
                raise self.refusal(f"{name}.{part}", "adapter_config.json says nothing of it")
            if tensor.shape != wanted[part]:
                raise self._wrong_shape(f"{name}.{part}", tensor, wanted[part])
        for part in wanted:
            if part not in module.tensors:
                raise self.refusal(f"{name}.{part}", "missing")

    def _wrong_shape(self, name: str, tensor: Tensor, wanted: tuple[int, ...]) -> AdapterError:
        base = f"; it was trained on {self._lora.base_model}" if self._lora.base_model else ""
        return self.refusal(name, f"expected {list(wanted)}, found {list(tensor.shape)}{base}")


def _expected(targets: dict[str, Target], found: set[str]) -> list[str]:
    """Modules of a layer of the trained model, by what an adapter for it holds."""
    is_hf = any(suffix.startswith("self_attn.") or suffix.endswith("_proj") for suffix in found)
    missing = {"mlp.gate_proj", "mlp.up_proj"}
    if found & missing:
        missing = {"mlp.gate_up_proj"}
    return [name for name in targets if name.endswith("_proj") == is_hf and name not in missing]


_UNSERVED = {
    "lora_embedding_": "LoRA of an embedding is not served",
    "modules_to_save": "a whole module was trained",
    "token_adapter": "rows of an embedding were trained",
    "prompt_embeddings": "a learnt prompt beside LoRA is not served",
    ".bias": "the model has no such bias, or adapter_config.json says that none was trained",
    "base_layer": "weights of the model itself were trained",
}
"""Parts of names to what they mean."""


def _why_unknown(name: str) -> str:
    reason = next((why for part, why in _UNSERVED.items() if part in name), None)
    return reason or "glmserve does not know this tensor, so it cannot use it"
