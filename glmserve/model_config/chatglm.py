"""THUDM's own config.json: ChatGLM2-6B, ChatGLM3-6B, CodeGeeX2, GLM-4-9B."""

from __future__ import annotations

from glmserve.config import RopeScaling
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
from glmserve.model_config.names import rope_meaning
from glmserve.model_config.reader import ConfigReader


def read_chatglm(reader: ConfigReader, rope_scaling: RopeScaling | None) -> ModelConfig:
    """Read the config.json of the second and later generations.

    Args:
        reader: of the file.
        rope_scaling: the meaning of rope_ratio; None: it is derived from the checkpoint.

    Raises:
        CheckpointError: a field is missing, of a wrong type, or not supported.
    """
    _refuse_unserved_chatglm(reader)
    heads = reader.integer("num_attention_heads")
    grouped = reader.boolean("multi_query_attention", False)
    groups = reader.integer("multi_query_group_num", 1)
    head_dim = reader.integer("kv_channels")
    linear_bias = reader.boolean("add_bias_linear", False)
    num_layers = reader.integer("num_layers", maximum=MOST_LAYERS)
    reader.require_equal("num_hidden_layers", num_layers, "disagrees with num_layers")
    return checked(
        reader,
        ModelConfig(
            path=reader.path,
            model_type="chatglm",
            vocab_size=reader.integer("padded_vocab_size"),
            hidden_size=reader.integer("hidden_size"),
            num_layers=num_layers,
            num_heads=heads,
            num_kv_heads=groups if grouped else heads,
            head_dim=head_dim,
            ffn_size=reader.integer("ffn_hidden_size"),
            norm="rmsnorm" if reader.boolean("rmsnorm", True) else "layernorm",
            norm_eps=reader.number("layernorm_epsilon", 1e-5),
            final_norm=reader.boolean("post_layer_norm", True),
            qkv_bias=linear_bias or reader.boolean("add_qkv_bias", False),
            linear_bias=linear_bias,
            qkv_per_head=not grouped,
            residual_post_norm=reader.boolean("apply_residual_connection_post_layernorm", False),
            tied_embeddings=False,
            rope=chatglm_rope(reader, head_dim, rope_scaling),
            max_context=reader.integer("seq_length", 2048, maximum=LONGEST_CONTEXT),
            stored_dtype=stored_dtype(reader),
            eos_token_ids=reader.integers("eos_token_id"),
            stored_bits=stored_bits(reader),
            stored_group_size=stored_group_size(reader),
            unknown_fields=tuple(reader.unread(WITHOUT_EFFECT)),
        ),
    )


def _refuse_unserved_chatglm(reader: ConfigReader) -> None:
    """Refuse fields that change the computation in a way that is not implemented."""
    reader.require_equal("pre_seq_len", 0, PREFIX_ALONE)
    reader.require_equal("interleaved_qkv", False, "this layout of query_key_value is not known")
    reader.require_equal("rotary_percent", 0.5, "the family rotates half of each head")


def chatglm_rope(
    reader: ConfigReader, head_dim: int, rope_scaling: RopeScaling | None
) -> RopeConfig:
    """The rotary embedding: half of each head rotates, and rope_ratio has one of two meanings.

    ChatGLM2-6B-32k divides positions by rope_ratio; ChatGLM3-6B-32k/128k and GLM-4 multiply the
    base by it. model_type is the same, so the checkpoint's name or its tokenizer decides.

    Raises:
        CheckpointError: neither decides, or a field is of a wrong type.
    """
    ratio = reader.number("rope_ratio", 1.0)
    base = reader.number("rope_theta", ROPE_BASE)
    if ratio == 1.0:
        return RopeConfig(dim=head_dim // 2, base=base, position_divisor=1.0)
    meaning = rope_scaling or rope_meaning(reader.path.parent)
    if meaning is None:
        raise reader.refuse(
            "rope_ratio",
            "ChatGLM2-6B-32k divides positions by it, ChatGLM3 and GLM-4 multiply the rotary base "
            "by it, and this checkpoint does not tell which it is; say "
            "--rope-scaling positions or --rope-scaling base",
        )
    if meaning == "positions":
        return RopeConfig(dim=head_dim // 2, base=base, position_divisor=ratio)
    return RopeConfig(dim=head_dim // 2, base=base * ratio, position_divisor=1.0)
