"""Settings of learnt keys and values before a sequence: P-Tuning v2, and PEFT's prefix tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glmserve.adapters.fields import asks_for_nothing
from glmserve.model_config.reader import ConfigReader

_LONGEST = 2**16
_NEUTRAL = frozenset(
    # Bookkeeping, and what only training uses. PEFT saves the keys and values that a projection has
    # computed, so the projection's settings change nothing.
    "auto_mapping base_model_name_or_path revision peft_version inference_mode task_type "
    "encoder_hidden_size prefix_projection init_weights".split()
)
"""Fields of adapter_config.json that change no answer."""


@dataclass(frozen=True, kw_only=True)
class PrefixAdapterConfig:
    """A prefix that PEFT (kind "prefix-tuning") or the publisher's own code (kind "p-tuning-v2")
    has trained."""

    folder: Path
    kind: Literal["prefix-tuning", "p-tuning-v2"]
    length: int
    """Slots of keys and values."""
    projection: bool = False
    """The stored embedding is the input of a two-layer network that computes keys and values."""
    heads: int | None = None
    """Heads that the keys of a layer are divided into; None: not said."""
    layers: int | None = None
    """Layers of the trained model; None: not said."""


def read_prefix_tuning(reader: ConfigReader) -> PrefixAdapterConfig:
    """Read a PEFT adapter_config.json of type PREFIX_TUNING, of PEFT 0.2 to 0.21.

    Raises:
        CheckpointError: a field is missing, of a wrong type, or cannot be honoured.
    """
    reader.mark_read("peft_type")
    reader.mark_read("token_dim")  # the weights have it
    if reader.integer("num_transformer_submodules", 1) != 1:
        raise reader.refuse("num_transformer_submodules", "these models have no encoder")
    config = PrefixAdapterConfig(
        folder=reader.path.parent,
        kind="prefix-tuning",
        length=reader.integer("num_virtual_tokens", maximum=_LONGEST),
        heads=_integer_if_given(reader, "num_attention_heads"),
        layers=_integer_if_given(reader, "num_layers"),
    )
    for field in reader.unread(_NEUTRAL):
        if not asks_for_nothing(reader.value(field)):
            raise reader.refuse(field, "this field is not known")
    return config


def read_p_tuning(reader: ConfigReader) -> PrefixAdapterConfig:
    """Read the config.json of a P-Tuning v2 folder.

    Raises:
        CheckpointError: a field is missing or of a wrong type.
    """
    if "pre_seq_len" not in reader:
        raise reader.refuse(
            "pre_seq_len", "this is no adapter; a P-Tuning v2 prefix has its length there"
        )
    return PrefixAdapterConfig(
        folder=reader.path.parent,
        kind="p-tuning-v2",
        length=reader.integer("pre_seq_len", maximum=_LONGEST),
        projection=reader.boolean("prefix_projection", False),
    )


def _integer_if_given(reader: ConfigReader, field: str) -> int | None:
    reader.mark_read(field)
    return None if reader.value(field) is None else reader.integer(field)
