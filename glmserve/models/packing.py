"""Quantises and packs parameters one at a time, as they are read.

So a model never exists twice in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, Protocol

from torch import Tensor

from glmserve.config import Quantization
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import (
    INT4_GROUP,
    LINEAR_MODULES,
    QUANTIZED_BITS,
    Parameters,
)
from glmserve.ops.base import PackedWeight
from glmserve.ops.linear.quantized import QuantizedWeight, quantize


class Packer(Protocol):
    """What brings linear weights into a layout: the Ops of a device, or a file."""

    def pack_linear(self, weight: Tensor | QuantizedWeight) -> PackedWeight:
        """Bring a linear weight [out, in] into the layout."""
        ...


def pack_parameters(
    parameters: Iterable[tuple[str, Tensor]],
    config: ModelConfig,
    ops: Packer,
    quantization: Quantization | None,
) -> Parameters:
    """Pack linear weights with `ops`; other parameters stay as they are.

    Args:
        parameters: canonical names and tensors; a quantised weight is two of them, codes and
            scales.
        quantization: what plain weights are quantised to; None: nothing.
    """
    packed: Parameters = {}
    halves: dict[str, Tensor] = {}
    for name, parameter in parameters:
        module, _, kind = name.rpartition(".")
        is_linear = module.rpartition(".")[2] in LINEAR_MODULES
        if kind in ("codes", "scales"):
            halves[name] = parameter
            weight = _assembled(halves, module, config, quantization)
            if weight is not None:
                packed[f"{module}.weight"] = ops.pack_linear(weight)
        elif is_linear and kind == "weight":
            packed[name] = ops.pack_linear(_quantized(parameter, module, quantization))
        else:
            packed[name] = parameter
    return packed


def _assembled(
    halves: dict[str, Tensor],
    module: str,
    config: ModelConfig,
    quantization: Quantization | None,
) -> QuantizedWeight | None:
    """The module's weight, or None until both codes and scales were read."""
    names = f"{module}.codes", f"{module}.scales"
    if not all(name in halves for name in names) or config.stored_bits is None:
        return None
    codes, scales = (halves.pop(name) for name in names)
    activation_bits = _activation_bits(quantization)
    scales = scales.view(len(codes), -1)  # [N], or [N, G] of groups
    return QuantizedWeight(codes, scales, config.stored_bits, activation_bits)


def _activation_bits(quantization: Quantization | None) -> Literal[8] | None:
    return 8 if quantization in ("w8a8", "w4a8") else None


def _quantized(
    weight: Tensor, module: str, quantization: Quantization | None
) -> Tensor | QuantizedWeight:
    if quantization is None:
        return weight
    bits = 8 if module == "output" else QUANTIZED_BITS[quantization]
    groups_fit = bits == 4 and weight.shape[1] % INT4_GROUP == 0
    rounded = quantize(weight, bits, INT4_GROUP if groups_fit else None)
    return replace(rounded, activation_bits=_activation_bits(quantization))
