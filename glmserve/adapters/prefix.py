"""Settings of learnt keys and values before a sequence: P-Tuning v2, and PEFT's prefix tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glmserve.model_config.reader import ConfigReader


@dataclass(frozen=True, kw_only=True)
class PrefixAdapterConfig:
    """A prefix that PEFT ("prefix-tuning") or the publisher's code ("p-tuning-v2") has trained."""

    folder: Path
    kind: Literal["prefix-tuning", "p-tuning-v2"]
    length: int
    """Slots of keys and values; they have no positions."""


def read_prefix_tuning(reader: ConfigReader) -> PrefixAdapterConfig:
    """Read a PEFT adapter_config.json of type PREFIX_TUNING.

    Raises:
        CheckpointError: a field is missing or of a wrong type.
    """
    return PrefixAdapterConfig(
        folder=reader.path.parent,
        kind="prefix-tuning",
        length=reader.integer("num_virtual_tokens", maximum=2**16),
    )


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
        length=reader.integer("pre_seq_len", maximum=2**16),
    )
