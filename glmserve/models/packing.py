"""Quantises and packs parameters one at a time, as they are read.

So a model never exists twice in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from torch import Tensor

from glmserve.config import Quantization
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import (
    INT4_GROUP,
    LINEAR_MODULES,
    QUANTIZED_BITS,
    Parameters,
)
from glmserve.models.quantized_modules import assemble, parts_of
from glmserve.ops.base import AnyOps
from glmserve.ops.linear.quantized import QuantizedWeight, quantize


def pack_parameters(
    parameters: Iterable[tuple[str, Tensor]],
    config: ModelConfig,
    ops: AnyOps,
    quantization: Quantization | None,
) -> Parameters:
    """Pack linear weights for `ops`; other parameters stay as they are.

    Args:
        parameters: canonical names and tensors; a quantised weight is several of them, see
            `stored_parameters`.
        quantization: what plain weights are quantised to; None: nothing.
    """
    packed: Parameters = {}
    wanted = parts_of(config) if config.stored_bits is not None else {}
    halves: dict[str, dict[str, Tensor]] = {}
    for name, parameter in parameters:
        module, _, kind = name.rpartition(".")
        is_linear = module.rpartition(".")[2] in LINEAR_MODULES
        if kind in wanted.get(module, ()):
            parts = halves.setdefault(module, {})
            parts[kind] = parameter
            if parts.keys() == wanted[module]:
                weight = assemble(module, halves.pop(module), config, quantization)
                packed[f"{module}.weight"] = ops.pack_linear(weight)
        elif is_linear and kind == "weight":
            packed[name] = ops.pack_linear(_quantized(parameter, module, config, quantization))
        else:
            packed[name] = parameter
    return packed


def _activation_bits(quantization: Quantization | None) -> Literal[8] | None:
    return 8 if quantization in ("w8a8", "w4a8") else None


def _quantized(
    weight: Tensor, module: str, config: ModelConfig, quantization: Quantization | None
) -> Tensor | QuantizedWeight:
    if quantization is None or (config.modelslim and config.modelslim.kind(module) == "FLOAT"):
        return weight
    bits = 8 if module == "output" else QUANTIZED_BITS[quantization]
    groups_fit = bits == 4 and weight.shape[1] % INT4_GROUP == 0
    rounded = quantize(weight, bits, INT4_GROUP if groups_fit else None)
    return replace(rounded, activation_bits=_activation_bits(quantization))
