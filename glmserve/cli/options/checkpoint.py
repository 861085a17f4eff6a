"""Options that name a checkpoint, of commands that compute with a model and serve nothing."""

from __future__ import annotations

import argparse

from glmserve.cli import values
from glmserve.config import EMBEDDED_CHECKPOINT


def add_checkpoint_options(container: argparse._ActionsContainer) -> None:
    """Add the options to a command or to a group of one."""
    container.add_argument(
        "--checkpoint",
        type=values.checkpoint,
        default=EMBEDDED_CHECKPOINT,
        metavar="PATH",
        help="folder with config.json and weights, or the model's name on a hub, as for serve",
    )
    container.add_argument(
        "--ptuning-checkpoint",
        type=values.checkpoint,
        metavar="PATH",
        help="folder of a P-Tuning v2 prefix that was trained for this checkpoint",
    )
    container.add_argument(
        "--rope-scaling",
        choices=("positions", "base"),
        help="meaning of rope_ratio in config.json, as for serve",
    )


def add_chat_format_option(container: argparse._ActionsContainer) -> None:
    """Add --chat-format to a command or to a group of one."""
    container.add_argument(
        "--chat-format",
        metavar="NAME",
        help="prompt format of conversations; default: the format that the checkpoint's files name",
    )


def add_load_format_option(container: argparse._ActionsContainer) -> None:
    """Add --load-format to a command or to a group of one."""
    container.add_argument(
        "--load-format",
        choices=("auto", "dummy"),
        default="auto",
        help="dummy: make random weights of the shapes in config.json",
    )
