"""Selects the number formats of weights and activations."""

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
"""The --quantization that a quantised checkpoint of so many bits accepts: its activations are
rounded."""

_SMALL_MODEL = 2**30  # bytes of float32 weights


def host_dtype(config: RunnerConfig, model: ModelConfig, *, fast_bfloat16: bool) -> torch.dtype:
    """The dtype of activations on a CPU.

    `auto` is float32 for small models, else bfloat16 if the CPU is fast with it.
    """
    if config.dtype != "auto":
        return DTYPES[config.dtype]
    small = count_parameters(model) * torch.float32.itemsize < _SMALL_MODEL
    return torch.float32 if small or not fast_bfloat16 else torch.bfloat16


def stored_dtype(config: RunnerConfig, model: ModelConfig) -> torch.dtype:
    """The dtype of activations on a GPU.

    `auto` is that of config.json, or bfloat16 if config.json names none.
    """
    name = config.dtype if config.dtype != "auto" else model.stored_dtype
    return DTYPES.get(name or "bfloat16", torch.bfloat16)


def quantization_on_load(config: RunnerConfig, model: ModelConfig) -> Quantization | None:
    """What plain linear weights are quantised to while loading; None: nothing.

    Dummy weights for the config.json of a quantised checkpoint are generated as floating point
    numbers, then quantised to its bits.

    Raises:
        OptionError: the checkpoint is quantised already, and --quantization asks for another
            format.
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
