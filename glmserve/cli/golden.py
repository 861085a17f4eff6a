"""`glmserve golden`: every tensor of a model as it should be, and a device beside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from glmserve.cli import values
from glmserve.cli.compute_process import become
from glmserve.cli.options import add_checkpoint_options, add_device_options, config_of
from glmserve.config import GoldenComparison, GoldenDump
from glmserve.contract.wire import encode_json
from glmserve.errors import OptionError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `golden` to the command line."""
    parser = commands.add_parser(
        "golden",
        help="compare a device with a reference, tensor by tensor",
        description="For the port of a new device: dump what a model should compute, and find the "
        "first tensor that a device computes otherwise.",
    )
    parts = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_dump(parts)
    _add_compare(parts)


def _add_dump(commands: Commands) -> None:
    parser = commands.add_parser(
        "dump",
        help="write a golden",
        description="Compute one sequence with a plain implementation of the model, and write the "
        "tensors of every layer: residual stream, norms, queries, keys, values, attention, MLP, "
        "logits.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run_dump)
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help="folder to write; it must be empty or not exist"
    )
    add_checkpoint_options(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--prompt", metavar="TEXT", help="the sequence as text")
    what.add_argument(
        "--token-ids",
        type=_token_ids,
        metavar="LIST",
        help="the sequence as token ids, such as 64790,64792,30910; default: 24 random ids",
    )
    parser.add_argument(
        "--reference",
        choices=("glmserve", "transformers"),
        default="glmserve",
        help="glmserve: its own plain implementation; transformers: the Glm class of that library, "
        "for ChatGLM2 and later",
    )
    parser.add_argument(
        "--dtype",
        choices=("float64", "float32"),
        default="float64",
        help="number format of the reference; the tensors are written as float32",
    )


def _add_compare(commands: Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare a device with a golden",
        description="Compute the golden's sequence on a device, in chunks and then token by token, "
        "and print the errors of its tensors. Exit code 0: all are within the tolerance; 1: one is "
        "not, and the last line names the first.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run_compare)
    parser.add_argument(
        "golden", type=Path, metavar="GOLDEN", help="folder that golden dump has written"
    )
    parser.add_argument(
        "--checkpoint",
        type=values.checkpoint,
        metavar="PATH",
        help="another place of the same model, or the model in another format; default: the "
        "golden's",
    )
    parser.add_argument(
        "--tolerance",
        type=values.tolerance,
        metavar="ERROR",
        help="largest relative error of a token's row; default: 1e-4 with float32, 0.06 with "
        "float16, 0.4 with bfloat16, 0.6 with 8 bits for weights or KV cache",
    )
    parser.add_argument(
        "--every-tensor", action="store_true", help="print all tensors, not each layer's worst"
    )
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="write the errors of all tensors as an SVG picture",
    )
    add_device_options(parser)


def run_dump(options: argparse.Namespace) -> NoReturn:
    """Replace this process by the one that computes.

    Raises:
        OptionError: the target exists, or the prompt is empty.
        CheckpointError: there is no tokenizer for --prompt.
    """
    target: Path = options.target
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OptionError(f"{target}: exists, and is no empty folder")
    token_ids = options.token_ids or []
    if options.prompt is not None:
        token_ids = _encode(options.checkpoint, options.prompt)
    dump = GoldenDump(
        checkpoint=str(options.checkpoint),
        target=str(target),
        ptuning_checkpoint=options.ptuning_checkpoint and str(options.ptuning_checkpoint),
        rope_scaling=options.rope_scaling,
        token_ids=token_ids,
        reference=options.reference,
        dtype=options.dtype,
    )
    become("glmserve.golden.main", "dump", encode_json(dump).decode(), debug=options.debug)


def run_compare(options: argparse.Namespace) -> NoReturn:
    """Replace this process by the one that computes.

    Raises:
        OptionError: the process may not use these CPUs, or should be several.
    """
    for name in ("tensor", "pipeline"):
        if vars(options)[f"{name}_parallel_size"] > 1:
            raise OptionError(
                f"--{name}-parallel-size: tensors are compared in one process; leave the option out"
            )
    runner = config_of(options, checkpoint=str(options.checkpoint or ""))
    comparison = GoldenComparison(
        golden=str(options.golden),
        runner=runner,
        tolerance=options.tolerance,
        picture=options.picture and str(options.picture),
        every_tensor=options.every_tensor,
    )
    become("glmserve.golden.main", "compare", encode_json(comparison).decode(), debug=options.debug)


def _encode(checkpoint: Path, prompt: str) -> list[int]:
    from glmserve.model_config import read_model_config
    from glmserve.text import load_tokenizer

    # The meaning of rope_ratio does not matter to a tokenizer.
    folder = read_model_config(checkpoint, rope_scaling="base").path.parent
    token_ids = load_tokenizer(folder).encode_prompt(prompt)
    if not token_ids:
        raise OptionError("--prompt is empty")
    return token_ids


def _token_ids(text: str) -> list[int]:
    """Ids, separated by commas."""
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of token ids such as 5,7,11")
    return [int(part) for part in parts]
