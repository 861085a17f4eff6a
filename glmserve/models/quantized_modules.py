"""The stored parts of a quantised linear module, and the weight that they make."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from glmserve.config import Quantization
from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.model_config.modelslim import ModelSlim
from glmserve.models.parameters import stored_parameters
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.static import LinearWeight, StaticWeight

NOT_PARTS = ("weight", "bias")
"""Parameters of a linear module that are not quantised."""


def parts_of(config: ModelConfig) -> dict[str, set[str]]:
    """The parts of each quantised module, by canonical name."""
    found: dict[str, set[str]] = {}
    for name in stored_parameters(config):
        module, _, kind = name.rpartition(".")
        if _is_part(name):
            found.setdefault(module, set()).add(kind)
    return found


def _is_part(name: str) -> bool:
    module, _, kind = name.rpartition(".")
    return kind not in NOT_PARTS and not module.endswith(("norm", "embedding"))


def assemble(
    module: str,
    parts: Mapping[str, Tensor],
    config: ModelConfig,
    quantization: Quantization | None,
) -> LinearWeight:
    """The module's weight.

    Args:
        module: canonical name.
        parts: all of them.
        quantization: w8a8 and w4a8 also round the activations of weights that are quantised alone.

    Raises:
        CheckpointError: ModelSlim's weights have offsets.
    """
    bits = config.stored_bits
    assert bits is not None
    if "deq_scale" in parts:
        if not 0 < parts["input_scale"].item() < math.inf:
            raise CheckpointError(f"{config.path.parent}: {module}: input_scale is no scale")
        return StaticWeight(
            codes=parts["codes"],
            deq_scale=parts["deq_scale"],
            quant_bias=parts["quant_bias"],
            input_scale=parts["input_scale"].item(),
            input_offset=parts["input_offset"].item(),
            shift=parts.get("shift"),
        )
    if config.modelslim is not None:
        _refuse_offsets(config.modelslim, module, parts)
    codes, scales = parts["codes"], parts["scales"]
    rounds = quantization in ("w8a8", "w4a8") or _rounds_rows(config, module)
    activation_bits: Literal[8] | None = 8 if rounds else None
    return QuantizedWeight(codes, scales.view(len(codes), -1), bits, activation_bits)


def _rounds_rows(config: ModelConfig, module: str) -> bool:
    return config.modelslim is not None and config.modelslim.kind(module) == "W8A8_DYNAMIC"


def _refuse_offsets(modelslim: ModelSlim, module: str, parts: Mapping[str, Tensor]) -> None:
    where = f"{modelslim.description}: {module}"
    if bool(parts["offsets"].any()):
        raise CheckpointError(
            f"{where}: weight_offset is not 0, and glmserve reads symmetric weights only; quantise "
            "with w_sym=True"
        )
    if "shift" in parts and bool(parts["shift"].any()):
        raise CheckpointError(
            f"{where}: module.bias of the norm before it is not 0, which glmserve reads for the "
            "kind W8A8 only; quantise without the outliers' suppression"
        )
