"""transformers' in-tree Glm: GLM-4-9B-hf, GLM-4-9B-chat-hf."""

from __future__ import annotations

from glmserve.errors import CheckpointError
from glmserve.model_config.common import (
    LONGEST_CONTEXT,
    MOST_LAYERS,
    WITHOUT_EFFECT,
    checked,
    stored_bits,
    stored_dtype,
    stored_group_size,
)
from glmserve.model_config.config import ROPE_BASE, ModelConfig, RopeConfig
from glmserve.model_config.reader import ConfigReader


def read_glm(reader: ConfigReader) -> ModelConfig:
    """Read the config.json of transformers' in-tree Glm.

    Raises:
        CheckpointError: a field is missing, of a wrong type, or not supported.
    """
    heads = reader.integer("num_attention_heads")
    hidden_size = reader.integer("hidden_size")
    head_dim = reader.integer("head_dim", max(1, hidden_size // heads))
    reader.require_equal("hidden_act", "silu", "only silu is known")
    reader.require_equal("sliding_window", 0, "sliding windows are not known")
    return checked(
        reader,
        ModelConfig(
            path=reader.path,
            model_type="glm",
            vocab_size=reader.integer("vocab_size"),
            hidden_size=hidden_size,
            num_layers=reader.integer("num_hidden_layers", maximum=MOST_LAYERS),
            num_heads=heads,
            num_kv_heads=reader.integer("num_key_value_heads", heads),
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
            rope=glm_rope(reader, head_dim),
            max_context=reader.integer("max_position_embeddings", 131072, maximum=LONGEST_CONTEXT),
            stored_dtype=stored_dtype(reader),
            eos_token_ids=reader.integers("eos_token_id"),
            stored_bits=stored_bits(reader),
            stored_group_size=stored_group_size(reader),
            unknown_fields=tuple(reader.unread(WITHOUT_EFFECT)),
        ),
    )


def glm_rope(reader: ConfigReader, head_dim: int) -> RopeConfig:
    """The rotary embedding: rope_parameters (transformers 5) or the older flat fields.

    Raises:
        CheckpointError: a value is out of range, or the kind of scaling is not supported.
    """
    parameters = reader.mapping("rope_parameters")
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise reader.refuse("rope_parameters", f"rope_type {kind!r} is not known")
    reader.require_equal("rope_scaling", {}, "rotary scaling of this kind is not known")
    found = {
        "partial_rotary_factor": reader.number("partial_rotary_factor", 0.5),
        "rope_theta": reader.number("rope_theta", ROPE_BASE),
    }
    for key in found.keys() & parameters.keys():
        value = parameters[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise reader.refuse("rope_parameters", f"{key} must be a positive, finite number")
        found[key] = float(value)
    fraction = found["partial_rotary_factor"]
    if fraction > 1:
        raise CheckpointError(f"{reader.path}: partial_rotary_factor {fraction} is above 1")
    return RopeConfig(dim=int(head_dim * fraction), base=found["rope_theta"], position_divisor=1.0)
