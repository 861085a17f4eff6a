"""Quantises and packs parameters one at a time, as they are read.

So a model never exists twice in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol

from torch import Tensor

from glmserve.config import Quantization
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import (
    LINEAR_MODULES,
    QUANTIZED_BITS,
    Parameters,
    int4_group,
    is_cut,
)
from glmserve.models.quantized_modules import assemble, parts_of
from glmserve.models.segment_counts import count_of
from glmserve.ops.linear.float8 import quantize_float8
from glmserve.ops.linear.packed import PackedWeight
from glmserve.ops.linear.quantized import quantize
from glmserve.ops.linear.segments import Segments, segments_of
from glmserve.ops.linear.static import LinearWeight


class Packer(Protocol):
    """What brings linear weights into a layout: the Ops of a device, or a file."""

    def pack_linear(self, weight: LinearWeight) -> PackedWeight:
        """Bring a linear weight [out, in] into the layout."""
        ...


def pack_parameters(
    parameters: Iterable[tuple[str, Tensor]],
    config: ModelConfig,
    ops: Packer,
    quantization: Quantization | None,
    *,
    ordered: bool = False,
) -> Parameters:
    """Pack linear weights with `ops`; other parameters stay as they are.

    Args:
        config: of the whole model, or of a rank's part.
        parameters: canonical names and tensors; a quantised weight is several of them, see
            `stored_parameters`.
        quantization: what plain weights are quantised to; None: nothing.
        ordered: products that ranks add become Segments.
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
                count = count_of(module, config, quantization) if ordered else None
                packed[f"{module}.weight"] = _pack(weight, count, ops, lambda w: w)
        elif is_linear and kind == "weight":
            count = count_of(module, config, quantization) if ordered else None
            rounding = partial(_quantized, module=module, config=config, quantization=quantization)
            packed[name] = _pack(parameter, count, ops, rounding)
        else:
            packed[name] = parameter
    return packed


def _pack(
    weight: LinearWeight,
    count: int | None,
    ops: Packer,
    rounding: Callable[[LinearWeight], LinearWeight],
) -> PackedWeight:
    """Pack a weight as it is, or in so many segments."""
    if count is None:
        return ops.pack_linear(rounding(weight))
    segments = segments_of(weight, count)
    return Segments(tuple(ops.pack_linear(rounding(segment)) for segment in segments))


def _activation_bits(quantization: Quantization | None) -> Literal[8] | None:
    return 8 if quantization in ("w8a8", "w4a8") else None


def _quantized(
    weight: LinearWeight, module: str, config: ModelConfig, quantization: Quantization | None
) -> LinearWeight:
    assert isinstance(weight, Tensor)
    if quantization is None or (config.modelslim and config.modelslim.kind(module) == "FLOAT"):
        return weight
    if quantization == "fp8" and module != "output":
        return quantize_float8(weight)
    bits = 8 if module == "output" else QUANTIZED_BITS[quantization]
    group = int4_group(weight.shape[1], is_cut=is_cut(config, f"{module}.weight"))
    rounded = quantize(weight, bits, group if bits == 4 else None)
    return replace(rounded, activation_bits=_activation_bits(quantization))
