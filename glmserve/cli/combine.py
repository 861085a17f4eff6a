"""`glmserve combine`: its options, and the process that does the work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from glmserve.cli.compile import become_graph_process, checked_target
from glmserve.config import CombinationConfig

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `combine` to the command line."""
    parser = commands.add_parser(
        "combine",
        help="put static graphs of several folders into one",
        description="Write a folder with the static graphs of several compiled folders. They must "
        "come from the same checkpoint and options; only --batch-sizes may differ.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="a folder of `glmserve compile`"
    )
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help="folder to write; it must be empty or not exist"
    )


def run(options: argparse.Namespace) -> NoReturn:
    """Replace this process by the one that combines, because only that may import torch.

    Raises:
        OptionError: the target exists.
    """
    combination = CombinationConfig(
        folders=[str(folder) for folder in options.folders],
        target=str(checked_target(options.target)),
    )
    become_graph_process("combine", combination, debug=options.debug)
