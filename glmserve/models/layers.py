"""The modules of a layer, and how they are taken from a model's parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from glmserve.models.parameters import Parameters
from glmserve.ops.adapters.segmented import SegmentedLora
from glmserve.ops.adapters.slots import LoraSlots, RowPlan
from glmserve.ops.linear.packed import PackedWeight

LINEARS = ("qkv", "dense", "gate_up", "down")
NORMS = ("input_norm", "dense_norm", "post_norm", "down_norm")


@dataclass(frozen=True, slots=True)
class Linear:
    weight: PackedWeight
    bias: Tensor | None
    lora: LoraSlots | None
    """None: there is no room for adapters."""

    def adapt_segments(
        self, adapters: RowPlan | None
    ) -> Callable[[int, Tensor, Tensor], None] | None:
        """What `Segments.multiply` calls for each segment; None: nothing."""
        lora = self.lora
        if adapters is None or not isinstance(lora, SegmentedLora):
            return None
        return lambda segment, x, y: lora.parts[segment].add(x, y, adapters)


@dataclass(frozen=True, slots=True)
class Norm:
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class Layer:
    input_norm: Norm
    qkv: Linear
    dense: Linear
    post_norm: Norm
    gate_up: Linear
    down: Linear
    dense_norm: Norm | None = None
    down_norm: Norm | None = None
    """The sandwich norms."""


def take_layer(parameters: Parameters, index: int, slots: Mapping[str, LoraSlots]) -> Layer:
    """A layer; its parameters leave the dict.

    Args:
        slots: for adapters, by canonical name of the module.
    """

    def linear(name: str) -> Linear:
        module = f"layers.{index}.{name}"
        weight = parameters.pop(f"{module}.weight")
        return Linear(weight, parameters.pop(f"{module}.bias", None), slots.get(module))

    def norm(name: str) -> Norm:
        return _take_norm(parameters, f"layers.{index}.{name}")

    return Layer(
        input_norm=norm("input_norm"),
        qkv=linear("qkv"),
        dense=linear("dense"),
        post_norm=norm("post_norm"),
        gate_up=linear("gate_up"),
        down=linear("down"),
        dense_norm=take_optional_norm(parameters, f"layers.{index}.dense_norm"),
        down_norm=take_optional_norm(parameters, f"layers.{index}.down_norm"),
    )


def take_optional_norm(parameters: Parameters, name: str) -> Norm | None:
    """A norm; None: the model does not have it."""
    return _take_norm(parameters, name) if f"{name}.weight" in parameters else None


def _take_norm(parameters: Parameters, name: str) -> Norm:
    return Norm(parameters.pop(f"{name}.weight"), parameters.pop(f"{name}.bias", None))
