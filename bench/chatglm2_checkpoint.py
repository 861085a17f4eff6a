"""Writes a checkpoint of ChatGLM2-6B's shape with random numbers, in the official layouts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from glmserve.model_config import read_model_config
from glmserve.models.names import Placement, placements

Layout = Literal["float16", "int8", "int4"]

CONFIG = {
    "model_type": "chatglm",
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "ffn_hidden_size": 13696,
    "hidden_size": 4096,
    "kv_channels": 128,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 32,
    "num_layers": 28,
    "original_rope": True,
    "padded_vocab_size": 65024,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_STEP = 0.01
"""What a code of 4 bits is worth: weights are some hundredths, as trained ones."""


def write_checkpoint(folder: Path, layout: Layout, shard_bytes: int, *, as_bin: bool) -> None:
    """Write config.json, the weights and their index; the folder must not exist.

    Args:
        shard_bytes: of a weights file at most, or one tensor if that is more.
        as_bin: torch's format in place of safetensors.
    """
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    bits = {"float16": {}, "int8": {"quantization_bit": 8}, "int4": {"quantization_bit": 4}}[layout]
    (folder / "config.json").write_text(json.dumps({**CONFIG, **bits}, indent=2))
    weight_map: dict[str, str] = {}
    stem, suffix = ("pytorch_model", "bin") if as_bin else ("model", "safetensors")
    for number, shard in enumerate(_shards(folder, shard_bytes)):
        name = f"{stem}-{number:05}.{suffix}"
        if as_bin:
            torch.save(shard, folder / name)
        else:
            save_file(shard, folder / name)
        weight_map |= dict.fromkeys(shard, name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


def _shards(folder: Path, shard_bytes: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    for name, placement in placements(read_model_config(folder)).items():
        tensor = _random(placement)
        if shard and sum(t.nbytes for t in shard.values()) + tensor.nbytes > shard_bytes:
            yield shard
            shard = {}
        shard[name] = tensor
    yield shard


def _random(placement: Placement) -> Tensor:
    kind = placement.parameter.rpartition(".")[2]
    if kind == "codes":
        return torch.randint(-128, 128, placement.shape, dtype=torch.int8)
    if kind == "scales":
        return torch.full(placement.shape, _STEP, dtype=torch.float16)
    if len(placement.shape) == 1:
        value = 0.0 if kind == "bias" else 1.0
        return torch.full(placement.shape, value, dtype=torch.float16)
    return torch.randn(placement.shape, dtype=torch.bfloat16).half() * _STEP
