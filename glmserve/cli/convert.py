"""`glmserve convert`: its options, and the process that does the work."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_args

from glmserve.cli import values
from glmserve.cli.compute_process import become
from glmserve.config import CheckpointLayout, ConversionConfig, WeightBits
from glmserve.errors import CheckpointError, OptionError
from glmserve.model_config.reader import locate_config

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_BITS: dict[str, WeightBits] = {"int8": 8, "int4": 4, "w8a8": 8}
_MOST_TOKENS = 16384
"""Of a calibration text. Ranges hardly change after some thousand tokens."""


def add_command(commands: Commands) -> None:
    """Add `convert` to the command line."""
    parser = commands.add_parser(
        "convert",
        help="write a checkpoint with smaller weights, or with an adapter in them",
        description="Quantise the linear weights of a checkpoint's layers, merge an adapter into "
        "them, or both. The result is in the layout of the source, of the official int8 and int4 "
        "checkpoints, or of Ascend's ModelSlim. glmserve serves it without options.",
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
    parser.add_argument(
        "--quantization",
        choices=tuple(_BITS),
        help="weights of 8 or 4 bits; w8a8 also rounds activations to 8 bits, and needs --layout "
        "modelslim; default, with --merge-adapter: weights keep their dtype",
    )
    parser.add_argument(
        "--merge-adapter",
        type=values.checkpoint,
        metavar="FOLDER",
        help="LoRA adapter, as PEFT writes it, or its name on a hub, to merge into the weights "
        "before they are rounded",
    )
    parser.add_argument(
        "--layout",
        choices=get_args(CheckpointLayout),
        default="official",
        help="official: that of the publisher's int8 and int4 checkpoints; modelslim: that of "
        "Ascend's tool, for int8 and w8a8",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="text in UTF-8 by which w8a8 chooses one scale for the input of each weight; default: "
        "a scale for each token, found while serving",
    )
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
    if options.calibration is not None:
        descriptor = _open_token_ids(_token_ids(options.calibration, options.source))
        conversion = dataclasses.replace(conversion, calibration=descriptor)
    argument = json.dumps(dataclasses.asdict(conversion))
    become("glmserve.converter.main", argument, debug=options.debug)


def _conversion(options: argparse.Namespace) -> ConversionConfig:
    """The checked options of the conversion.

    Raises:
        OptionError: the options contradict each other, or the target exists.
    """
    target: Path = options.target.resolve()
    if options.quantization is None and options.merge_adapter is None:
        raise OptionError("give --quantization, --merge-adapter, or both")
    if options.quantization is None and options.layout != "official":
        raise OptionError(f"--layout {options.layout} needs --quantization")
    if options.merge_adapter is not None and options.calibration:
        raise OptionError(
            "--calibration with --merge-adapter: the text would be computed without the adapter; "
            "merge it first, then convert the merged checkpoint"
        )
    if options.quantization != "int4" and options.group_size:
        raise OptionError("--group-size is for int4; 8 bits have one scale for each row")
    rounds_activations = options.quantization == "w8a8"
    if rounds_activations and options.layout != "modelslim":
        raise OptionError(
            "--quantization w8a8 needs --layout modelslim: official checkpoints say nothing about "
            "activations; `glmserve serve --quantization w8a8` rounds them of any checkpoint"
        )
    if options.layout == "modelslim" and options.quantization == "int4":
        raise OptionError("--layout modelslim is for int8 and w8a8")
    if options.calibration and not rounds_activations:
        raise OptionError("--calibration is for --quantization w8a8")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OptionError(f"{target}: exists, and is no empty folder")
    conversion = ConversionConfig(
        source=str(options.source),
        target=str(target),
        bits=None if options.quantization is None else _BITS[options.quantization],
        group_size=options.group_size,
        layout=options.layout,
        rounds_activations=rounds_activations,
        merge_adapter=None if options.merge_adapter is None else str(options.merge_adapter),
    )
    if Path(conversion.partial).exists():
        raise OptionError(f"{conversion.partial}: left behind by a conversion; remove it")
    return conversion


def _token_ids(file: Path, source: Path) -> list[int]:
    """The ids of a text.

    Raises:
        OptionError: the file cannot be read, or is too short.
        CheckpointError: the checkpoint has no tokenizer.
    """
    from glmserve.text import load_tokenizer

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError(f"--calibration {file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise OptionError(f"--calibration {file}: byte {error.start} is not UTF-8") from None
    folder = locate_config(source).parent
    try:
        token_ids = load_tokenizer(folder).encode(text)
    except CheckpointError as error:
        raise CheckpointError(
            f"--calibration {file}: the checkpoint has no tokenizer for it: {error.message}"
        ) from None
    if not token_ids:
        raise OptionError(f"--calibration {file}: no text")
    return token_ids[:_MOST_TOKENS]


def _open_token_ids(token_ids: list[int]) -> int:
    """A descriptor of a file without a name, which the converter inherits."""
    with tempfile.TemporaryFile() as file:
        file.write(array("i", token_ids).tobytes())
        file.flush()
        descriptor = os.dup(file.fileno())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    return descriptor
