"""`glmserve compile`: its options, and the process that does the work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_args

from glmserve.cli import values
from glmserve.cli.compute_process import become
from glmserve.config import (
    CombinationConfig,
    CompilationConfig,
    GraphAttention,
    GraphTarget,
    Quantization,
    SplitStrategy,
)
from glmserve.contract.wire import encode_json
from glmserve.errors import OptionError

_SCRIPTS = ("glm2_6b_dyn.py", "combine.py")
"""What --vendor-scripts must have."""

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `compile` to the command line."""
    parser = commands.add_parser(
        "compile",
        help="write a model as graphs of another runtime",
        description="Write a folder with a checkpoint's model as graphs for onnxruntime, OpenVINO "
        "or any tool chain that reads ONNX. `glmserve serve --checkpoint TARGET` serves it.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "source",
        type=values.checkpoint,
        metavar="CHECKPOINT",
        help="folder with config.json and weights, or one weights file with config.json beside it",
    )
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help="folder to write; it must be empty or not exist"
    )
    parser.add_argument(
        "--for",
        dest="runtime",
        choices=get_args(GraphTarget),
        required=True,
        help="what executes the graphs; onnx: standard operators only, for other tool chains; "
        "vacc, compass: what the compilers of Vastai and Hexaflake take, which are called if they "
        "are installed",
    )
    parser.add_argument(
        "--vendor-scripts",
        type=Path,
        metavar="DIR",
        help="for compass: the folder `compile` of github.com/hexaflakeai/ChatGLM2-6B; its scripts "
        "compile the folder at once, where the vendor's compiler is installed",
    )
    _add_formats(parser)
    _add_sizes(parser)
    _add_inspection(parser)


def _add_formats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="number format of activations, and of weights that are not quantised; auto: float32; "
        "for openvino float32 for a small model, else bfloat16",
    )
    parser.add_argument(
        "--quantization",
        choices=[name for name in get_args(Quantization) if name != "fp8"],
        help="quantise the weights of matrix products to 8 bits (int8) or 4 bits (int4); w8a8 and "
        "w4a8 also round activations to 8 bits; a quantised checkpoint keeps its own codes",
    )
    parser.add_argument(
        "--attention",
        choices=("lanes", "paged"),
        help="lanes: static graphs with a cache lane for each sequence, for any chip; "
        "paged: one dynamic graph over a paged cache, for openvino only and its default",
    )
    parser.add_argument(
        "--ptuning-checkpoint",
        type=values.checkpoint,
        metavar="PATH",
        help="folder of a P-Tuning v2 prefix that becomes part of the graphs; with lanes only",
    )
    parser.add_argument(
        "--rope-scaling",
        choices=("positions", "base"),
        help="meaning of rope_ratio in config.json, see glmserve serve --help",
    )


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--total-len",
        type=values.positive,
        metavar="TOKENS",
        help="longest prompt and answer together; with lanes, each holds so many tokens, and a "
        "step reads them all; default: the model's limit, with lanes at most 2048",
    )
    parser.add_argument(
        "--prompt-len",
        type=values.positive,
        metavar="TOKENS",
        help="with lanes: tokens of a prompt that a call of the base graph computes; default: 128",
    )
    parser.add_argument(
        "--split",
        type=values.positive,
        default=1,
        metavar="N",
        help="with lanes: cut the layers into N graphs, for N devices",
    )
    parser.add_argument(
        "--split-strategy",
        choices=get_args(SplitStrategy),
        help="greedy: fill one device after the other up to --device-memory; equal: the same "
        "number of layers; loose: the largest part is as small as possible, embedding, output "
        "layer and KV cache included; default: loose",
    )
    parser.add_argument(
        "--device-memory",
        type=values.num_bytes,
        metavar="BYTES",
        help="memory of each device, such as 16G; a part that needs more is refused",
    )
    parser.add_argument(
        "--batch-sizes",
        type=values.batch_sizes,
        metavar="LIST",
        help="with lanes: sequences of each incremental graph; the largest is the number of lanes; "
        "default: 1,8",
    )


def _add_inspection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inspectable",
        action="store_true",
        help="with lanes: write one more graph, whose outputs are all tensors of the model, for "
        "glmserve golden compare and for the tools of a vendor; a paged graph always has them",
    )


def run(options: argparse.Namespace) -> NoReturn:
    """Replace this process by the compiler, because only the compiler may import torch.

    Raises:
        OptionError: the options contradict each other, or the target exists.
    """
    become_graph_process("compile", _compilation(options), debug=options.debug)


def become_graph_process(
    command: str, config: CompilationConfig | CombinationConfig, *, debug: bool
) -> NoReturn:
    """Replace this process by the one that works with graphs."""
    become("glmserve.graphs.main", command, encode_json(config).decode(), debug=debug)


def checked_target(path: Path) -> Path:
    """The absolute path of a folder to write.

    Raises:
        OptionError: it exists and is not empty, or an interrupted command has left its beginning.
    """
    target = path.resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OptionError(f"{target}: exists, and is no empty folder")
    partial = target.with_name(f"{target.name}.partial")
    if partial.exists():
        raise OptionError(f"{partial}: left behind by an interrupted command; remove it")
    return target


def _compilation(options: argparse.Namespace) -> CompilationConfig:
    """The checked options of the compilation.

    Raises:
        OptionError: the options contradict each other, or the target exists.
    """
    target = checked_target(options.target)
    if options.split == 1 and (options.split_strategy or options.device_memory):
        raise OptionError("--split-strategy and --device-memory are about --split; give it")
    _check_vendor(options)
    attention = _attention(options.attention, options.runtime)
    if attention == "paged":
        _check_paged(options)
    if options.split > 1 and options.inspectable:
        raise OptionError("--inspectable: the graph with all tensors is one; leave --split out")
    return CompilationConfig(
        source=str(options.source),
        target=str(target),
        runtime=options.runtime,
        attention=attention,
        dtype=options.dtype,
        quantization=options.quantization,
        total_len=options.total_len,
        split=options.split,
        device_memory=options.device_memory,
        rope_scaling=options.rope_scaling,
        inspectable=options.inspectable,
        vendor_scripts=options.vendor_scripts and str(options.vendor_scripts.resolve()),
        ptuning_checkpoint=options.ptuning_checkpoint and str(options.ptuning_checkpoint),
        **{
            name: getattr(options, name)
            for name in ("prompt_len", "batch_sizes", "split_strategy")
            if getattr(options, name) is not None
        },
    )


def _attention(wanted: GraphAttention | None, runtime: GraphTarget) -> GraphAttention:
    if runtime == "compass":
        return "whole"
    return wanted or ("paged" if runtime == "openvino" else "lanes")


def _check_vendor(options: argparse.Namespace) -> None:
    if options.runtime != "compass":
        if options.vendor_scripts:
            raise OptionError("--vendor-scripts is for --for compass; leave it out")
        return
    scripts = options.vendor_scripts
    if scripts and not all((scripts / name).is_file() for name in _SCRIPTS):
        raise OptionError(f"--vendor-scripts {scripts}: {' and '.join(_SCRIPTS)} are not there")
    if options.attention:
        raise OptionError("--attention: Hexaflake's compiler makes its own; leave it out")
    if options.inspectable:
        raise OptionError("--inspectable is for graphs over lanes; compass has one of a whole text")
    if options.split > 1:
        raise OptionError(
            "--split: Hexaflake's runtime splits an engine itself, by --device and "
            "--split-stragety of its demo_ngf_bf16.py; leave it out"
        )


def _check_paged(options: argparse.Namespace) -> None:
    if options.runtime != "openvino":
        raise OptionError(
            f"--attention paged: {options.runtime} has no paged attention; take lanes"
        )
    if options.split > 1:
        raise OptionError("--split is for --attention lanes; a paged graph runs on one device")
    for name in ("prompt_len", "batch_sizes", "split_strategy", "device_memory"):
        if getattr(options, name) is not None:
            raise OptionError(
                f"--{name.replace('_', '-')} is for --attention lanes; a paged graph takes any "
                "number of sequences and tokens"
            )
