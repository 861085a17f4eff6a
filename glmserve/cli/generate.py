"""`glmserve generate`: texts for prompts of the command line, without a server."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.cli import values
from glmserve.cli.options import (
    add_chat_format_option,
    add_checkpoint_options,
    add_device_options,
    add_load_format_option,
)
from glmserve.cli.prompts import read_prompts
from glmserve.config import NamedAdapter
from glmserve.errors import AdapterError, GlmserveError, OptionError, StartupError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

ADAPTER = "adapter"
"""The name of the only adapter."""


def add_command(commands: Commands) -> None:
    """Add `generate` to the command line."""
    parser = commands.add_parser(
        "generate",
        help="generate texts without a server, and report how long it took",
        description="Generate an answer to each prompt, all of them at once, with the scheduler, "
        "KV cache and device that serve would use, and print the answers.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    _add_model_options(parser)
    _add_prompt_options(parser)
    _add_answer_options(parser)
    add_device_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    add_checkpoint_options(group)
    add_load_format_option(group)
    group.add_argument(
        "--adapter",
        type=values.checkpoint,
        metavar="PATH",
        help="folder of a LoRA or prefix adapter that changes the model for all prompts, or its "
        "name on a hub",
    )
    add_chat_format_option(group)


def _add_prompt_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("prompts")
    group.add_argument(
        "text",
        type=values.non_empty,
        nargs="*",
        metavar="TEXT",
        help="what the user says; several are answered at the same time. Without any prompt, stdin "
        "is one",
    )
    what = group.add_mutually_exclusive_group()
    what.add_argument(
        "--prompt",
        type=values.non_empty,
        nargs="+",
        metavar="TEXT",
        help="the same as TEXT",
    )
    what.add_argument(
        "--file",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="files, each of which is a prompt; -: stdin",
    )
    what.add_argument(
        "--input-tokens",
        type=values.positive,
        metavar="N",
        help="random prompts of so many tokens, to measure; no text is printed",
    )
    group.add_argument(
        "--raw",
        action="store_true",
        help="continue the prompts as texts, instead of answering them as a conversation",
    )
    group.add_argument(
        "--batch-size",
        type=values.positive,
        default=1,
        metavar="N",
        help="with --input-tokens: number of prompts",
    )


def _add_answer_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("answers")
    group.add_argument(
        "--max-tokens", type=values.positive, default=256, metavar="N", help="longest answer"
    )
    group.add_argument(
        "--constant-output",
        action="store_true",
        help="generate --max-tokens tokens, whatever the model says about the end",
    )
    group.add_argument(
        "--temperature",
        type=values.temperature,
        default=0.0,
        metavar="T",
        help="0: always the most likely token",
    )
    group.add_argument(
        "--top-p", type=values.share, default=1.0, metavar="P", help="as in the request field"
    )
    group.add_argument(
        "--seed", type=values.seed, default=0, metavar="N", help="of random tokens, and of dummies"
    )
    group.add_argument(
        "--n", type=values.positive, default=1, metavar="N", help="answers to each prompt"
    )
    group.add_argument(
        "--stop",
        type=values.non_empty,
        nargs="+",
        default=[],
        metavar="TEXT",
        help="an answer ends before any of these texts",
    )
    group.add_argument(
        "--logprobs",
        type=values.non_negative,
        metavar="N",
        help="show the log-probability of each token, and of the N most likely ones in its place",
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object for each prompt, one a line: prompt, choices, counts of tokens",
    )
    group.add_argument(
        "--report",
        action="store_true",
        help="print seconds and tokens per second: of the prompts (base), of all further tokens "
        "(incremental), and of both",
    )


def run(options: argparse.Namespace) -> None:
    """Generate and print.

    Raises:
        StartupError: the model cannot be loaded, or a prompt not be answered.
        OptionError: two options contradict each other.
    """
    measures = options.input_tokens is not None
    if measures and options.text:
        raise OptionError("--input-tokens makes the prompts; leave out TEXT")
    if options.batch_size > 1 and not measures:
        raise OptionError("--batch-size is for --input-tokens; give several texts to --prompt")
    if options.raw and measures:
        raise OptionError("--raw is for --prompt")
    if options.json and options.report:
        raise OptionError("--report is a table beside the texts; leave out --json")
    texts = [] if measures else read_prompts(options)
    _settle_adapter(options)
    from glmserve.cli.generating import generate  # here: --help and a wrong option need not wait

    try:
        asyncio.run(generate(options, texts))
    except StartupError:
        raise
    except GlmserveError as error:  # what a server would answer to such a request
        raise StartupError(error.message) from None


def _settle_adapter(options: argparse.Namespace) -> None:
    """Give --adapter the form that it has for serve, with room for this one.

    Raises:
        StartupError: it is no adapter.
    """
    if options.adapter is None:
        return
    from glmserve.adapters import LoraConfig, read_adapter_config

    try:
        settings = read_adapter_config(options.adapter)
    except AdapterError as error:
        raise StartupError(f"--adapter: {error.message}") from None
    if isinstance(settings, LoraConfig):
        options.max_lora_rank = settings.largest_rank
    options.adapter = [NamedAdapter(ADAPTER, options.adapter)]
