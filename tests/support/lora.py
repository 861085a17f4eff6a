"""Makes LoRA adapters and prefixes with random numbers, in PEFT's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

SETTINGS: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "THUDM/chatglm3-6b",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
}

NAMES = {
    "self_attention.query_key_value": "query_key_value",
    "self_attention.dense": "dense",
    "mlp.dense_h_to_4h": "dense_h_to_4h",
    "mlp.dense_4h_to_h": "dense_4h_to_h",
}


def shapes_of(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Name within a layer, and [out, in], of the linear modules of a THUDM config.json."""
    c = config
    hidden, ffn = c["hidden_size"], c["ffn_hidden_size"]
    queries = c["num_attention_heads"] * c["kv_channels"]
    groups = c["multi_query_group_num"] if c["multi_query_attention"] else c["num_attention_heads"]
    return {
        "self_attention.query_key_value": (queries + 2 * groups * c["kv_channels"], hidden),
        "self_attention.dense": (hidden, queries),
        "mlp.dense_h_to_4h": (2 * ffn, hidden),
        "mlp.dense_4h_to_h": (hidden, ffn),
    }


def lora_tensors(
    config: dict[str, Any],
    *,
    rank: int = 4,
    targets: list[str] | None = None,
    layers: list[int] | None = None,
    prefix: str = "base_model.model.transformer.encoder.layers",
    seed: int = 0,
    scale: float = 0.1,
) -> dict[str, Tensor]:
    """The tensors of an adapter.

    Args:
        config: the base's config.json, of THUDM's second or a later generation.
        targets: last parts of the modules' names; None: all.
        scale: of the numbers of B.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in range(config["num_layers"]) if layers is None else layers:
        for name, (rows, columns) in shapes_of(config).items():
            if targets is not None and NAMES[name] not in targets:
                continue
            module = f"{prefix}.{layer}.{name}"
            a = torch.randn(rank, columns, generator=generator) * columns**-0.5
            found[f"{module}.lora_A.weight"] = a
            found[f"{module}.lora_B.weight"] = torch.randn(rows, rank, generator=generator) * scale
    return found


def write_adapter(folder: Path, tensors: dict[str, Tensor], **settings: Any) -> Path:
    """adapter_config.json and adapter_model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**SETTINGS, **settings}))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def random_adapter(folder: Path, config: dict[str, Any], **options: Any) -> Path:
    """An adapter with `lora_tensors(config, **options)`, and settings that fit them."""
    rank, targets = options.get("rank", 4), options.get("targets")
    settings: dict[str, Any] = {"r": rank, "lora_alpha": 2 * rank}
    if targets is not None:
        settings["target_modules"] = targets
    if options.get("layers") is not None:
        settings["layers_to_transform"] = options["layers"]
    return write_adapter(folder, lora_tensors(config, **options), **settings)


def random_prefix(folder: Path, config: dict[str, Any], length: int, seed: int = 0) -> Path:
    """A prefix as PEFT's prefix tuning writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": length}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    heads = config["num_attention_heads"]
    if config["multi_query_attention"]:
        heads = config["multi_query_group_num"]
    width = config["num_layers"] * 2 * heads * config["kv_channels"]
    rows = 8 * torch.randn(length, width, generator=torch.Generator().manual_seed(seed))
    save_file({"prompt_embeddings": rows}, folder / "adapter_model.safetensors")
    return folder
