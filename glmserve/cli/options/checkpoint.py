"""Options that name a checkpoint, of commands that compute with a model and serve nothing."""

from __future__ import annotations

import argparse

from glmserve.cli import values
from glmserve.config import EMBEDDED_CHECKPOINT


def add_checkpoint_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the group "model" to a command, and return it."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--checkpoint",
        type=values.checkpoint,
        default=EMBEDDED_CHECKPOINT,
        metavar="PATH",
        help="local path of the model: a folder with config.json and weights",
    )
    group.add_argument(
        "--ptuning-checkpoint",
        type=values.checkpoint,
        metavar="PATH",
        help="folder of a P-Tuning v2 prefix that was trained for this checkpoint",
    )
    group.add_argument(
        "--rope-scaling",
        choices=("positions", "base"),
        help="meaning of rope_ratio in config.json, as for serve",
    )
    group.add_argument(
        "--load-format",
        choices=("auto", "dummy"),
        default="auto",
        help="dummy: make random weights of the shapes in config.json",
    )
    return group
