"""Reads the weights of a LoRA adapter. Every tensor is used, or the adapter is refused by the
tensor's name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.adapters import LoraConfig, weights_file
from glmserve.adapters.config import as_adapter_errors
from glmserve.errors import AdapterError
from glmserve.model_config import ModelConfig
from glmserve.models.checkpoint_files import read_tensors
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


class LoraWeightsRead(NamedTuple):
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


class _Module(NamedTuple):
    """A trainer's module and its tensors so far."""

    layer: int
    suffix: str
    target: Target
    tensors: dict[str, Tensor]
    """float32 by part and kind: "lora_A.weight"."""


def read_lora_weights(lora: LoraConfig, model: ModelConfig) -> LoraWeightsRead:
    """Read an adapter for a model.

    Args:
        model: the whole one.

    Raises:
        AdapterError: a file is damaged; a tensor is missing, of another shape, not finite, or not
            used; the message names it.
    """
    path = weights_file(lora.folder)
    reading = _Reading(path, lora, model)
    with as_adapter_errors():
        for name, tensor in read_tensors(path):
            reading.add(name, tensor)
    return reading.finish()


class _Reading:
    """Collects tensors by module."""

    def __init__(self, path: Path, lora: LoraConfig, model: ModelConfig) -> None:
        self._path = path
        self._lora = lora
        self._model = model
        self._targets = lora_targets(model)
        self._placements = placements(model)
        self._shapes = parameter_shapes(model)
        self._modules: dict[str, _Module] = {}
        self._biases: dict[str, Tensor] = {}
        self._adapter: str | None = None

    def add(self, name: str, tensor: Tensor) -> None:
        """Note a tensor."""
        if not tensor.is_floating_point():
            raise self._refusal(name, f"expected floating point numbers, found {tensor.dtype}")
        numbers = tensor.float()
        if not numbers.isfinite().all():
            raise self._refusal(name, "holds numbers that are not finite")
        parsed = parse_lora_name(name)
        if parsed is None:
            self._add_bias(name, numbers)
            return
        if self._adapter not in (None, parsed.adapter):
            raise self._refusal(name, f"of a second adapter; this one is {self._adapter!r}")
        self._adapter = parsed.adapter
        module, part = self._module(name, parsed), f"{parsed.part}.{parsed.kind}"
        if part in module.tensors:
            raise self._refusal(name, "stored a second time")
        module.tensors[part] = numbers

    def finish(self) -> LoraWeightsRead:
        """Check that everything is there, and join what trainers keep apart."""
        if not self._modules:
            raise AdapterError(f"{self._path}: holds no LoRA weights")
        self._check_complete()
        pieces: dict[str, list[tuple[str, _Module]]] = {}
        for name, module in self._modules.items():
            self._check(name, module)
            pieces.setdefault(f"layers.{module.layer}.{module.target.module}", []).append(
                (name, module)
            )
        modules = {canonical: self._join(canonical, found) for canonical, found in pieces.items()}
        return LoraWeightsRead(modules, self._biases)

    def _module(self, name: str, parsed: LoraName) -> _Module:
        known = self._modules.get(parsed.module)
        if known is not None:
            return known
        place = layer_module(parsed.module)
        if place is None:
            raise self._refusal(name, "only linear modules of layers are served with adapters")
        layer, suffix = place
        if layer >= self._model.num_layers:
            raise self._refusal(name, f"the model has {self._model.num_layers} layers")
        if suffix not in self._targets:
            raise self._refusal(
                name, f"the model has no such module; it has {', '.join(self._targets)}"
            )
        if not self._lora.selection.includes(parsed.module):
            raise self._refusal(name, "adapter_config.json does not name this module")
        module = _Module(layer, suffix, self._targets[suffix], {})
        self._modules[parsed.module] = module
        return module

    def _add_bias(self, name: str, numbers: Tensor) -> None:
        """Note a trained bias of the model."""
        own = trained_name(name).replace(".base_layer.", ".")
        placement = self._placements.get(own)
        if self._lora.bias == "none" or not own.endswith(".bias") or placement is None:
            raise self._refusal(name, _why_unknown(name))
        if numbers.shape != placement.shape:
            raise self._wrong_shape(name, numbers, placement.shape)
        parameter = placement.parameter
        whole = self._biases.get(parameter)
        if whole is None:
            whole = torch.full(self._shapes[parameter], torch.nan)
            self._biases[parameter] = whole
        placement.copy(numbers, whole)

    def _check_complete(self) -> None:
        """Check that each module of the model that adapter_config.json names has tensors."""
        suffixes = {module.suffix for module in self._modules.values()}
        head, _, _ = next(iter(self._modules)).partition("layers.")
        for layer in range(self._model.num_layers):
            for suffix in _expected(self._targets, suffixes):
                module = f"{head}layers.{layer}.{suffix}"
                if module not in self._modules and self._lora.selection.includes(module):
                    raise self._refusal(
                        module, "has no tensors, but adapter_config.json names this module"
                    )

    def _check(self, name: str, module: _Module) -> None:
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
                raise self._refusal(f"{name}.{part}", "adapter_config.json says nothing of it")
            if tensor.shape != wanted[part]:
                raise self._wrong_shape(f"{name}.{part}", tensor, wanted[part])
        for part in wanted:
            if part not in module.tensors:
                raise self._refusal(f"{name}.{part}", "missing")

    def _join(self, canonical: str, found: list[tuple[str, _Module]]) -> ModuleLora:
        """One A and B of what may be several modules for the trainer, each with its own ranks."""
        rows, _ = self._shapes[f"{canonical}.weight"]
        ranks = [len(module.tensors["lora_A.weight"]) for _, module in found]
        b = torch.zeros(rows, sum(ranks))
        bias = torch.zeros(rows) if self._lora.bias_of_b else None
        magnitudes = torch.full((rows,), torch.nan) if self._lora.magnitudes else None
        taken = torch.zeros(rows, dtype=torch.bool)
        first = 0
        for (name, module), rank in zip(found, ranks, strict=True):
            target, scale = module.target, self._lora.scale_of(name)
            own = slice(target.first_row, target.first_row + target.rows)
            if taken[own].any():
                raise self._refusal(name, "another module of the adapter changes the same rows")
            taken[own] = True
            target.place(module.tensors["lora_B.weight"] * scale, b[:, first : first + rank])
            if bias is not None:
                target.place(module.tensors["lora_B.bias"] * scale, bias)
            if magnitudes is not None:
                target.place(module.tensors["lora_magnitude_vector.weight"], magnitudes)
            first += rank
        a = torch.cat([module.tensors["lora_A.weight"] for _, module in found])
        return ModuleLora(a, b, bias, magnitudes)

    def _wrong_shape(self, name: str, tensor: Tensor, wanted: tuple[int, ...]) -> AdapterError:
        base = f"; it was trained on {self._lora.base_model}" if self._lora.base_model else ""
        return self._refusal(name, f"expected {list(wanted)}, found {list(tensor.shape)}{base}")

    def _refusal(self, name: str, why: str) -> AdapterError:
        return AdapterError(f"{self._path}: {name[:300]}: {why}")


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
