"""`glmserve convert`: its options, and the process that does the work."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from glmserve.cli import values
from glmserve.config import ConversionConfig, WeightBits
from glmserve.errors import OptionError
from glmserve.process.torch_environment import prepare_for_torch

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_PACKAGE_ROOT = Path(__file__).parents[2]
_BITS: dict[str, WeightBits] = {"int8": 8, "int4": 4}


def add_command(commands: Commands) -> None:
    """Add `convert` to the command line."""
    parser = commands.add_parser(
        "convert",
        help="write a checkpoint with smaller weights",
        description="Quantise the linear weights of a checkpoint's layers, and write a checkpoint "
        "in the layout of the official int8 and int4 ones. glmserve serves it without options.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "source",
        type=values.checkpoint,
        metavar="SOURCE",
        help="folder with config.json and weights, or one weights file with config.json beside it",
    )
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help="folder to write; it must be empty or not exist"
    )
    parser.add_argument("--quantization", choices=tuple(_BITS), required=True, help="8 or 4 bits")
    parser.add_argument(
        "--group-size",
        type=values.positive,
        metavar="COLUMNS",
        help="columns that share one scale, such as 64; more exact than the default, one scale per "
        "row; for int4 only, and only glmserve reads such a checkpoint",
    )


def run(options: argparse.Namespace) -> NoReturn:
    """Replace this process by the converter, because only the converter may import torch.

    Raises:
        OptionError: the options contradict each other, or the target exists.
    """
    conversion = _conversion(options)
    # As for the worker, a file named torch.py in the current folder must not be run.
    code = (
        f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
        f"from glmserve.converter.main import main; main(sys.argv[1], debug={options.debug})"
    )
    argument = json.dumps(dataclasses.asdict(conversion))
    prepare_for_torch()
    os.execv(sys.executable, [sys.executable, "-P", "-c", code, argument])


def _conversion(options: argparse.Namespace) -> ConversionConfig:
    """The checked options of the conversion.

    Raises:
        OptionError: the options contradict each other, or the target exists.
    """
    target: Path = options.target.resolve()
    if options.quantization == "int8" and options.group_size:
        raise OptionError("--group-size is for int4; int8 has one scale for each row")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OptionError(f"{target}: exists, and is no empty folder")
    conversion = ConversionConfig(
        source=str(options.source),
        target=str(target),
        bits=_BITS[options.quantization],
        group_size=options.group_size,
    )
    if Path(conversion.partial).exists():
        raise OptionError(f"{conversion.partial}: left behind by a conversion; remove it")
    return conversion
