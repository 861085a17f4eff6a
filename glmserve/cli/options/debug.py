"""How to find out what happened."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_debug_options(parser: argparse.ArgumentParser) -> None:
    """Add their group to a command."""
    group = parser.add_argument_group("debugging")
    group.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="write down requests, prompts included, and every step, for glmserve replay",
    )
