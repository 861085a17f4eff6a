"""Fields and checks that all formats of config.json share."""

from __future__ import annotations

from glmserve.config import WeightBits
from glmserve.errors import CheckpointError
from glmserve.model_config.config import ModelConfig
from glmserve.model_config.reader import ConfigReader

MOST_LAYERS = 10_000
LONGEST_CONTEXT = 2**24
"""Tokens. The longest context of the family is 2**20; tables are allocated for this length."""

PREFIX_ALONE = (
    "a P-Tuning v2 prefix belongs to a base model; name that by --checkpoint, and this by "
    "--ptuning-checkpoint"
)

WITHOUT_EFFECT = frozenset(
    # Bookkeeping, training-only fields, and switches that the original code stores but never uses
    # at inference (original_rope, fp32_residual_connection) or that cancel out
    # (apply_query_key_layer_scaling divides by the layer number and multiplies back). The original
    # code ignores tie_word_embeddings: it never ties them.
    "_name_or_path architectures auto_map transformers_version use_cache attention_dropout "
    "hidden_dropout bias_dropout_fusion classifier_dropout apply_query_key_layer_scaling "
    "attention_softmax_in_fp32 fp32_residual_connection original_rope pad_token_id bos_token_id "
    "dtype torch_dtype initializer_range vocab_size num_hidden_layers chat_format "
    "prefix_projection tie_word_embeddings".split()
)


def checked(reader: ConfigReader, config: ModelConfig) -> ModelConfig:
    """Check that the fields are consistent.

    Returns:
        `config`

    Raises:
        CheckpointError: they are not; the message names the field.
    """
    if config.num_heads % config.num_kv_heads:
        raise CheckpointError(
            f"{reader.path}: {config.num_heads} attention heads cannot share "
            f"{config.num_kv_heads} key/value heads evenly"
        )
    if config.rope.dim % 2 or not 2 <= config.rope.dim <= config.head_dim:
        raise CheckpointError(
            f"{reader.path}: {config.rope.dim} rotary dims do not form pairs within heads of "
            f"{config.head_dim}"
        )
    group_size = config.stored_group_size
    if group_size is not None:
        if config.stored_bits != 4:
            raise reader.refuse("quantization_group_size", "only with quantization_bit 4")
        for width in config.linear_widths:
            if width % group_size:
                raise reader.refuse("quantization_group_size", f"does not divide {width} columns")
    return config


def stored_dtype(reader: ConfigReader) -> str | None:
    """`torch_dtype`, or `dtype` as newer versions of transformers call it.

    Raises:
        CheckpointError: it is no string.
    """
    key = "torch_dtype" if "torch_dtype" in reader else "dtype"
    return reader.text(key) if key in reader else None


def stored_bits(reader: ConfigReader) -> WeightBits | None:
    """`quantization_bit`; None for 0 or a missing field: weights are not quantised.

    Raises:
        CheckpointError: it is neither 4 nor 8.
    """
    known: dict[tuple[int, ...], WeightBits | None] = {(): None, (0,): None, (4,): 4, (8,): 8}
    bits = reader.integers("quantization_bit")
    if bits not in known:
        raise reader.refuse("quantization_bit", "only 4 and 8 are known")
    return known[bits]


def stored_group_size(reader: ConfigReader) -> int | None:
    """`quantization_group_size`, which only glmserve writes; None: one scale per row.

    Raises:
        CheckpointError: it is no positive whole number.
    """
    key = "quantization_group_size"
    return reader.integer(key) if key in reader else None
