"""transformers' in-tree Glm and Glm4: GLM-4-9B-hf and GLM-Edge; GLM-4-0414 and GLM-Z1."""

from __future__ import annotations

from typing import Literal

from glmserve.model_config.common import (
    LONGEST_CONTEXT,
    MOST_LAYERS,
    WITHOUT_EFFECT,
    checked,
    stored_bits,
    stored_dtype,
    stored_group_size,
)
from glmserve.model_config.config import ModelConfig
from glmserve.model_config.glm_rope import glm_rope, stretched_context
from glmserve.model_config.reader import ConfigReader

_HEAD_DIM, _KV_HEADS = 128, 2
"""What a config.json leaves out has the defaults of transformers' GlmConfig and Glm4Config."""


def read_glm(reader: ConfigReader, model_type: Literal["glm", "glm4"]) -> ModelConfig:
    """Read the config.json of transformers' in-tree Glm or Glm4.

    Raises:
        CheckpointError: a field is missing, of a wrong type, or not supported.
    """
    heads = reader.integer("num_attention_heads")
    head_dim = reader.integer("head_dim", _HEAD_DIM)
    context = reader.integer("max_position_embeddings", 131072, maximum=LONGEST_CONTEXT)
    rope = glm_rope(reader, head_dim, context)
    reader.require_equal("hidden_act", "silu", "only silu is known")
    reader.require_equal("sliding_window", 0, "sliding windows are not known")
    return checked(
        reader,
        ModelConfig(
            path=reader.path,
            model_type=model_type,
            vocab_size=reader.integer("vocab_size"),
            hidden_size=reader.integer("hidden_size"),
            num_layers=reader.integer("num_hidden_layers", maximum=MOST_LAYERS),
            num_heads=heads,
            num_kv_heads=reader.integer("num_key_value_heads", _KV_HEADS),
            head_dim=head_dim,
            ffn_size=reader.integer("intermediate_size"),
            norm="rmsnorm",
            norm_eps=reader.number("rms_norm_eps", 1.5625e-07),
            final_norm=True,
            qkv_bias=reader.boolean("attention_bias", True),
            linear_bias=False,
            qkv_per_head=False,
            residual_post_norm=False,
            tied_embeddings=reader.boolean("tie_word_embeddings", False),
            rope=rope,
            max_context=min(stretched_context(rope, context), LONGEST_CONTEXT),
            sandwich_norms=model_type == "glm4",
            stored_dtype=stored_dtype(reader),
            eos_token_ids=reader.integers("eos_token_id"),
            stored_bits=stored_bits(reader),
            stored_group_size=stored_group_size(reader),
            unknown_fields=tuple(reader.unread(WITHOUT_EFFECT)),
        ),
    )
