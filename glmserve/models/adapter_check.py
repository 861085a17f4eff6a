"""Checks that adapters fit a model of which only config.json is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from glmserve.adapters import LoraConfig, read_adapter_config
from glmserve.errors import AdapterError, CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import WHOLE_MODEL
from glmserve.models.lora import read_lora_weights
from glmserve.models.lora_local import refuse_magnitudes
from glmserve.models.prefix import load_prefix_adapter


@torch.inference_mode()
def check_adapters(adapters: Iterable[tuple[str, str]], model: ModelConfig) -> None:
    """Read the weights of adapters as loading does, which takes no time beside those of a model.

    Args:
        adapters: names and folders.
        model: the whole one.

    Raises:
        CheckpointError: an adapter does not fit.
    """
    for name, folder in adapters:
        try:
            _check(Path(folder), model)
        except AdapterError as error:
            raise CheckpointError(f"--adapter {name}: {error.message}") from None


def _check(folder: Path, model: ModelConfig) -> None:
    adapter = read_adapter_config(folder)
    if isinstance(adapter, LoraConfig):
        refuse_magnitudes(adapter)
        read_lora_weights(adapter, model)
    else:
        load_prefix_adapter(model, adapter, torch.float32, WHOLE_MODEL)
