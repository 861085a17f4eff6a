"""P-Tuning v2: learnt keys and values before every sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import ConfigReader, locate_config


@dataclass(frozen=True)
class PrefixConfig:
    """The prefix of a P-Tuning checkpoint, by its config.json."""

    checkpoint: Path
    """Folder, or one weights file with config.json beside it."""
    length: int
    """Slots of keys and values; they have no positions."""
    projection: bool
    """The stored embedding is the input of a two-layer network that computes keys and values."""


def read_prefix_config(checkpoint: Path) -> PrefixConfig:
    """Read the config.json that the publisher's P-Tuning code writes beside the prefix.

    Raises:
        CheckpointError: there is no config.json, or it has no pre_seq_len.
    """
    reader = ConfigReader(locate_config(checkpoint))
    if "pre_seq_len" not in reader:
        raise CheckpointError(
            f"{reader.path}: has no pre_seq_len, so this is no P-Tuning v2 checkpoint"
        )
    return PrefixConfig(
        checkpoint=checkpoint,
        length=reader.integer("pre_seq_len", maximum=2**16),
        projection=reader.boolean("prefix_projection", False),
    )
