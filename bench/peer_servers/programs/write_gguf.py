"""A GGUF file for llama.cpp's "chatglm": write_gguf.py CHECKPOINT TARGET.

Block for block the same model; the tokenizer's words are made up.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
from checkpoint import Checkpoint

_BF16 = gguf.GGMLQuantizationType.BF16


def main() -> None:
    source, target = (Path(argument) for argument in sys.argv[1:])
    checkpoint = Checkpoint(source)
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "chatglm")
    _add_settings(writer, checkpoint.config)
    _add_words(writer, checkpoint.config["vocab_size"])
    _add_tensors(writer, checkpoint)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(target)


def _add_settings(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"] // 2)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def _add_words(writer: gguf.GGUFWriter, count: int) -> None:
    kinds = gguf.TokenType
    control = ["<unk>", "<s>", "</s>"]
    data = [f"<0x{byte:02X}>" for byte in range(256)]
    words = [f"▁w{number}" for number in range(count - len(control) - len(data))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(control + data + words)
    writer.add_token_scores([0.0] * count)
    writer.add_token_types(
        [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
        + [kinds.BYTE] * len(data)
        + [kinds.NORMAL] * len(words)
    )
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def _add_tensors(writer: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
    def matrix(name: str, bits: np.ndarray) -> None:
        writer.add_tensor(name, np.ascontiguousarray(bits).view(np.uint8), raw_dtype=_BF16)

    matrix("token_embd.weight", checkpoint.bits("model.embed_tokens.weight"))
    matrix("output.weight", checkpoint.bits("lm_head.weight"))
    writer.add_tensor("output_norm.weight", checkpoint.floats("model.norm.weight"))
    for number in range(checkpoint.config["num_hidden_layers"]):
        layer, name = checkpoint.layer(number), f"blk.{number}."
        writer.add_tensor(name + "attn_norm.weight", layer.floats("input_layernorm.weight"))
        writer.add_tensor(name + "ffn_norm.weight", layer.floats("post_attention_layernorm.weight"))
        writer.add_tensor(name + "attn_qkv.bias", layer.qkv_bias())
        matrix(name + "attn_qkv.weight", layer.qkv_bits())
        matrix(name + "attn_output.weight", layer.bits("self_attn.o_proj.weight"))
        matrix(name + "ffn_up.weight", layer.bits("mlp.gate_up_proj.weight"))
        matrix(name + "ffn_down.weight", layer.bits("mlp.down_proj.weight"))


if __name__ == "__main__":
    main()
