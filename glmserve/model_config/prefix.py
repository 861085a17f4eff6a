"""P-Tuning v2: learnt keys and values that stand before every sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import ConfigReader, locate_config


@dataclass(frozen=True)
class PrefixConfig:
    """What a P-Tuning checkpoint's config.json says about its prefix."""

    checkpoint: Path
    """Folder, or one weights file with config.json beside it."""
    length: int
    """Slots of keys and values; they take no positions."""
    projection: bool
    """What is stored goes through a two-layer network first."""


def read_prefix_config(checkpoint: Path) -> PrefixConfig:
    """Read what upstream's P-Tuning writes beside the prefix.

    Raises:
        CheckpointError: there is no config.json, or it has no prefix.
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
