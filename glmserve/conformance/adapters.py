"""Random LoRA adapters for the tiny checkpoints, and what the reference computes with them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from glmserve.adapters import LoraConfig, read_adapter_config
from glmserve.config import report_nothing
from glmserve.golden.reference import Reference
from glmserve.model_config import read_model_config
from glmserve.models.lora import read_lora_weights
from glmserve.models.names import placements

_TARGETS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")


def write_adapter(folder: Path, checkpoint: Path, *, rank: int, seed: int) -> Path:
    """Write an adapter of all linear modules of a checkpoint, large enough to move the logits."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, placement in placements(read_model_config(checkpoint)).items():
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and module.endswith(_TARGETS):
            rows, columns = placement.shape
            a = torch.randn(rank, columns, generator=generator) * columns**-0.5
            b = torch.randn(rows, rank, generator=generator) * 0.2
            start = f"base_model.model.{module}.lora_"
            tensors |= {f"{start}A.weight": a, f"{start}B.weight": b}
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": _TARGETS}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


def adapted_reference(checkpoint: Path, folder: Path) -> Reference:
    """The reference in float64, with the adapter's B A in its weights."""
    config = read_model_config(checkpoint)
    reference = Reference(config, checkpoint, torch.float64, report_nothing)
    adapter = read_adapter_config(folder)
    assert isinstance(adapter, LoraConfig)
    for module, lora in read_lora_weights(adapter, config).modules.items():
        reference.add_to_weight(f"{module}.weight", lora.b.double() @ lora.a.double())
    return reference
