"""Options for debugging."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_debug_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "debugging" to a command."""
    group = parser.add_argument_group("debugging")
    group.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="write all requests, with their prompts, and all steps to a file for glmserve replay",
    )
