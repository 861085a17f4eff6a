"""Room for adapters beside a model's linear weights: how much, and in which modules."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.models.parameters import Parameters, Shape, is_layer_weight, parameter_shapes
from glmserve.ops.adapters.segmented import SegmentedLora
from glmserve.ops.adapters.slots import LoraShape, LoraSlots
from glmserve.ops.base import AnyOps
from glmserve.ops.linear.segments import Segments


class AdapterRoom(NamedTuple):
    """Room for the adapters of a model."""

    adapters: int
    """Adapters that are loaded at the same time."""
    rank: int
    """Largest rank of one module of an adapter, as its trainer names modules."""


def adapted_modules(config: ModelConfig) -> dict[str, Shape]:
    """Canonical name ("layers.3.qkv") and shape [N, K] of the modules that adapters may change.

    Args:
        config: of the whole model, or of a rank's part.
    """
    return {
        name.removesuffix(".weight"): shape
        for name, shape in parameter_shapes(config).items()
        if is_layer_weight(name)
    }


def merged_modules(config: ModelConfig, module: str) -> int:
    """How many modules of a trainer a canonical module may be merged from. Their ranks add up."""
    if config.model_type == "chatglm-6b":
        return 1
    match module.rpartition(".")[2]:
        case "qkv":
            return 3
        case "gate_up":
            return 2 if config.gated_ffn else 1
    return 1


def adapter_bytes(config: ModelConfig, room: AdapterRoom, itemsize: int) -> int:
    """The most bytes that adapters take: A [R, K], B [N, R] and a bias [N] in each module.

    Args:
        config: of the whole model, or of a rank's part.
        itemsize: bytes of a number.
    """
    numbers = 0
    for module, (rows, columns) in adapted_modules(config).items():
        rank = room.rank * merged_modules(config, module)
        numbers += rank * (rows + columns) + rows
    return room.adapters * numbers * itemsize


def make_slots(
    config: ModelConfig, parameters: Parameters, ops: AnyOps, room: AdapterRoom
) -> dict[str, LoraSlots]:
    """Empty slots for each module that adapters may change, by canonical name.

    Args:
        config: of the whole model, or of a rank's part.
        parameters: linear weights packed for `ops`.
    """
    norm: Tensor = parameters[f"layers.{config.first_layer}.input_norm.weight"]
    return {
        module: _slots(
            ops,
            parameters[f"{module}.weight"],
            _lora_shape(shape, room, merged_modules(config, module), norm.dtype, norm.device),
        )
        for module, shape in adapted_modules(config).items()
    }


def _lora_shape(
    shape: Shape, room: AdapterRoom, merged: int, dtype: torch.dtype, device: torch.device
) -> LoraShape:
    rows, columns = shape
    return LoraShape(room.adapters, rows, columns, room.rank * merged, dtype, device)


def _slots(ops: AnyOps, weight: object, shape: LoraShape) -> LoraSlots:
    if not isinstance(weight, Segments):
        return ops.lora_slots(shape)
    count = len(weight.weights)
    part = shape._replace(columns=shape.columns // count)
    return SegmentedLora([ops.lora_slots(part) for _ in range(count)])
