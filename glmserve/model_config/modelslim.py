"""Checkpoints that ModelSlim quantised, the tool of Ascend's vendor.

A folder has weights, `quant_model_weight_w8a8.safetensors`, and beside them the kind of each
tensor, `quant_model_description_w8a8.json`. config.json names the format in `quantize`. Newer
versions of the tool leave the format out of all three. The kinds and their formulas are described
in the tool's repository, https://gitcode.com/Ascend/msmodelslim, "AscendV1".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import read_json_object
from glmserve.model_config.stored_names import LAYER_MODULES, LAYERS, OUTPUT

Kind = Literal["FLOAT", "W8A8", "W8A8_DYNAMIC", "W8A16"]

_KINDS: dict[str, Kind] = {
    "FLOAT": "FLOAT",
    "W8A8": "W8A8",
    "W8A8S": "W8A8",  # some codes were made 0
    "W8A8_DYNAMIC": "W8A8_DYNAMIC",
    "W8A16": "W8A16",
}
_UNREAD = ("kv_cache_type", "kv_quant_type", "fa_quant_type", "reduce_quant_type")
"""Fields that ask for further quantisation: of the KV cache, of attention, of communication."""
_LINEAR = ("qkv", "dense", "gate_up", "down")
SMOOTHED_NORMS = {"qkv": "input_norm", "gate_up": "post_norm"}
"""The linear modules that read a norm's result, and that norm."""


class Files(NamedTuple):
    """The files of a quantised checkpoint."""

    description: Path
    weights: Path
    """One file, or the index of several."""


@dataclass(frozen=True)
class ModelSlim:
    """The kinds of a checkpoint's linear modules."""

    description: Path
    kinds: Mapping[str, Kind]
    """By canonical name: "layers.3.qkv", "output"."""
    smoothed: frozenset[str]
    """Linear modules whose input is smoothed: the norm before them has other weights
    (`module.weight`), and a bias (`module.bias`)."""

    @property
    def rounds_rows(self) -> bool:
        """Whether activations of some modules are rounded row by row."""
        return "W8A8_DYNAMIC" in self.kinds.values()

    def kind(self, module: str) -> Kind:
        """The kind of a linear module, by canonical name."""
        return self.kinds.get(module, "FLOAT")


def find_files(folder: Path) -> Files | None:
    """The files of a quantised checkpoint; None: there is no description.

    Raises:
        CheckpointError: there are several descriptions, or no weights.
    """
    description = _only(sorted(folder.glob("quant_model_description*.json")))
    if description is None:
        return None
    whole = _only(sorted(folder.glob("quant_model_weight*.safetensors.index.json")))
    weights = whole or _only(sorted(folder.glob("quant_model_weight*.safetensors")))
    if weights is None:
        raise CheckpointError(
            f"{description}: there are no weights for it; expected quant_model_weight*.safetensors"
        )
    return Files(description, weights)


def _only(paths: list[Path]) -> Path | None:
    if len(paths) > 1:
        raise CheckpointError(f"{paths[0]}: there is {paths[1].name} as well; keep one of them")
    return paths[0] if paths else None


def read_modelslim(folder: Path, quantize: str | None, num_layers: int) -> ModelSlim | None:
    """Read a checkpoint's description; None: it is not quantised by this tool.

    Args:
        quantize: the field of config.json.

    Raises:
        CheckpointError: the description is missing, or something in it is not read by glmserve.
    """
    files = find_files(folder)
    if files is None:
        if quantize:
            raise CheckpointError(
                f"{folder / 'config.json'}: quantize is {quantize!r}, but there is no "
                f"quant_model_description_{quantize}.json"
            )
        return None
    fields = read_json_object(files.description)
    _refuse_unread(files.description, fields)
    modules = {f"layers.{i}.{name}" for i in range(num_layers) for name in _LINEAR}
    kinds = {
        module: _kind(files.description, fields, f"{stored_module(module)}.weight")
        for module in sorted(modules | {"output"})
    }
    smoothed = frozenset(
        f"layers.{i}.{module}"
        for i in range(num_layers)
        for module, norm in SMOOTHED_NORMS.items()
        if f"{stored_module(f'layers.{i}.{norm}')}.module.weight" in fields
        and kinds[f"layers.{i}.{module}"] != "FLOAT"
    )
    return ModelSlim(files.description, kinds, smoothed)


def stored_module(module: str) -> str:
    """The stored name of a canonical module."""
    if module == "output":
        return OUTPUT
    _, layer, name = module.split(".")
    return f"{LAYERS}.{layer}.{LAYER_MODULES[name]}"


def _refuse_unread(path: Path, fields: Mapping[str, Any]) -> None:
    for name in _UNREAD:
        if fields.get(name):
            raise CheckpointError(
                f"{path}: {name} is {fields[name]!r}, which glmserve does not read; quantise "
                "without it, and take --kv-cache-dtype int8 for a smaller KV cache"
            )
    for name in ("metadata", "optional"):
        if fields.get(name):
            raise CheckpointError(
                f"{path}: {name} describes transformations of the activations, which glmserve does "
                "not read"
            )


def _kind(path: Path, fields: Mapping[str, Any], name: str) -> Kind:
    value = fields.get(name)
    if not isinstance(value, str):
        raise CheckpointError(f"{path}: {name}: expected its kind, found {value!r}")
    if value not in _KINDS:
        raise CheckpointError(
            f"{path}: {name}: {value[:100]} is not read; glmserve reads {', '.join(_KINDS)}"
        )
    return _KINDS[value]
