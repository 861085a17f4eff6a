"""THUDM's own config.json of the first generation, ChatGLM-6B."""

from __future__ import annotations

from glmserve.contract.prompt_layout import PromptMarks
from glmserve.model_config.common import (
    LONGEST_CONTEXT,
    MOST_LAYERS,
    PREFIX_ALONE,
    WITHOUT_EFFECT,
    checked,
    stored_bits,
    stored_dtype,
    stored_group_size,
)
from glmserve.model_config.config import ROPE_BASE, ModelConfig, RopeConfig
from glmserve.model_config.reader import ConfigReader


def read_chatglm_6b(reader: ConfigReader) -> ModelConfig:
    """Read the config.json of ChatGLM-6B. Most properties of its block are fixed.

    Raises:
        CheckpointError: a field is missing, of a wrong type, or not supported.
    """
    reader.require_equal("position_encoding_2d", True, "ChatGLM-6B always has two positions")
    reader.require_equal("quantization_embeddings", False, "only linear weights may be quantised")
    reader.require_equal("pre_seq_len", 0, PREFIX_ALONE)
    hidden_size, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    if hidden_size % (4 * heads):
        raise reader.refuse("num_attention_heads", f"does not divide {hidden_size} into pairs")
    head_dim = hidden_size // heads
    return checked(
        reader,
        ModelConfig(
            path=reader.path,
            model_type="chatglm-6b",
            vocab_size=reader.integer("vocab_size"),
            hidden_size=hidden_size,
            num_layers=reader.integer("num_layers", maximum=MOST_LAYERS),
            num_heads=heads,
            num_kv_heads=heads,
            head_dim=head_dim,
            ffn_size=reader.integer("inner_hidden_size", 4 * hidden_size),
            norm="layernorm",
            norm_eps=reader.number("layernorm_epsilon", 1e-5),
            final_norm=True,
            qkv_bias=True,
            linear_bias=True,
            qkv_per_head=True,
            residual_post_norm=True,
            tied_embeddings=False,
            rope=RopeConfig(head_dim // 2, ROPE_BASE, 1.0, axes=2, rounded_frequencies=True),
            max_context=reader.integer("max_sequence_length", 2048, maximum=LONGEST_CONTEXT),
            stored_dtype=stored_dtype(reader),
            eos_token_ids=reader.integers("eos_token_id"),
            stored_bits=stored_bits(reader),
            stored_group_size=stored_group_size(reader),
            gated_ffn=False,
            prompt_marks=PromptMarks(
                gmask_id=reader.integer("gmask_token_id"),
                mask_id=reader.integer("mask_token_id"),
                sop_id=reader.integer("bos_token_id"),
            ),
            unknown_fields=tuple(reader.unread(WITHOUT_EFFECT)),
        ),
    )
