"""A folder for xFasterTransformer's "chatglm2": write_xft.py CHECKPOINT TARGET.

Names, order and layout are those of the package's tools/chatglm2_convert.py, which itself needs
ChatGLM2's remote code. Numbers are float16; the engine makes what it computes with of them.
"""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

import numpy as np
from checkpoint import Checkpoint

_MOST_POSITIONS = 8192
"""It makes tables for all of them."""


def main() -> None:
    source, target = (Path(argument) for argument in sys.argv[1:])
    checkpoint = Checkpoint(source)
    part = target.with_name(target.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    _write_settings(part, checkpoint.config)
    _write_tensors(part, checkpoint)
    part.rename(target)


def _write_settings(folder: Path, config: dict) -> None:
    settings = configparser.ConfigParser()
    settings["chatglm2"] = {
        "model_name": "chatglm2",
        "head_num": config["num_attention_heads"],
        "kv_head_num": config["num_key_value_heads"],
        "size_per_head": config["head_dim"],
        "kv_channels": config["head_dim"],
        "inter_size": config["intermediate_size"],
        "max_pos_seq_len": min(config["max_position_embeddings"], _MOST_POSITIONS),
        "num_layer": config["num_hidden_layers"],
        "layernorm_eps": config["rms_norm_eps"],
        "layernorm_type": "pre_layernorm",
        "activation_type": "swiglu",
        "has_post_decoder_layernorm": 1,
        "vocab_size": config["vocab_size"],
        "start_id": 1,
        "end_id": 2,
        "pad_id": 0,
        "weight_data_type": "fp16",
        "rmsnorm": 1,
        "apply_residual_connection_post_layernorm": 0,
        "multi_query_attention": 1,
        "rope_ratio": 1,
    }
    with (folder / "config.ini").open("w") as file:
        settings.write(file)


def _write_tensors(folder: Path, checkpoint: Checkpoint) -> None:
    def write(name: str, values: np.ndarray) -> None:
        values.astype(np.float16).tofile(folder / f"model.{name}.bin")

    def matrix(name: str, values: np.ndarray) -> None:
        write(name, np.ascontiguousarray(values.T))  # [in, out]

    write("wte", checkpoint.floats("model.embed_tokens.weight"))
    write("lm_head.weight", checkpoint.floats("lm_head.weight"))
    write("final_layernorm.weight", checkpoint.floats("model.norm.weight"))
    for number in range(checkpoint.config["num_hidden_layers"]):
        layer, name = checkpoint.layer(number), f"layers.{number}."
        write(name + "input_layernorm.weight", layer.floats("input_layernorm.weight"))
        write(
            name + "post_attention_layernorm.weight",
            layer.floats("post_attention_layernorm.weight"),
        )
        qkv = (layer.qkv_bits().astype(np.uint32) << 16).view(np.float32)
        write(name + "attention.query_key_value.bias.0", layer.qkv_bias())
        matrix(name + "attention.query_key_value.weight.0", qkv)
        matrix(name + "attention.dense.weight.0", layer.floats("self_attn.o_proj.weight"))
        matrix(name + "mlp.dense_h_to_4h.weight.0", layer.floats("mlp.gate_up_proj.weight"))
        matrix(name + "mlp.dense_4h_to_h.weight.0", layer.floats("mlp.down_proj.weight"))


if __name__ == "__main__":
    main()
