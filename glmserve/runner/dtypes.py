"""Which number format the weights, the activations and the KV cache have."""

from __future__ import annotations

import torch

from glmserve.config import Quantization, RunnerConfig, WeightBits
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import count_parameters

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}

_WITH_ACTIVATIONS: dict[WeightBits, Quantization] = {8: "w8a8", 4: "w4a8"}
"""What may be asked of a quantised checkpoint: to round activations as well."""

_SMALL_MODEL = 2**30  # bytes of float32 weights


def host_dtype(config: RunnerConfig, model: ModelConfig, *, fast_bfloat16: bool) -> torch.dtype:
    """`auto` on a CPU: float32 for small models, else bfloat16 where the CPU computes with it."""
    if config.dtype != "auto":
        return DTYPES[config.dtype]
    small = count_parameters(model) * torch.float32.itemsize < _SMALL_MODEL
    return torch.float32 if small or not fast_bfloat16 else torch.bfloat16


def stored_dtype(config: RunnerConfig, model: ModelConfig) -> torch.dtype:
    """`auto` on an accelerator: as stored; bfloat16 where config.json does not say."""
    name = config.dtype if config.dtype != "auto" else model.stored_dtype
    return DTYPES.get(name or "bfloat16", torch.bfloat16)


def quantization_on_load(config: RunnerConfig, model: ModelConfig) -> Quantization | None:
    """What plain linear weights become.

    Dummy weights of a quantised checkpoint's shape are made plain, and quantised as it would be.

    Raises:
        OptionError: the checkpoint is quantised already.
    """
    if model.stored_bits is None:
        return config.quantization
    if config.quantization == _WITH_ACTIVATIONS[model.stored_bits]:
        return config.quantization
    if config.quantization:
        raise OptionError(
            f"--quantization {config.quantization}: this checkpoint is quantised to "
            f"{model.stored_bits} bits already; leave the option out"
        )
    if config.load_format == "auto":
        return None
    return "int8" if model.stored_bits == 8 else "int4"


def dtype_name(dtype: torch.dtype) -> str:
    """ "bfloat16" of torch.bfloat16."""
    return str(dtype).removeprefix("torch.")
