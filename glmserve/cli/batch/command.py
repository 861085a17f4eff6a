"""`glmserve batch`: its options."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.cli import values
from glmserve.cli.options import (
    add_adapter_options,
    add_device_options,
    add_model_options,
    add_scheduling_options,
    add_worker_options,
)
from glmserve.errors import OptionError
from glmserve.process.interrupts import exit_immediately_on

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_KEY = "OPENAI_API_KEY"
"""The variable from which OpenAI's own clients take the key."""
_OWN_GROUPS = ("batch", "options", "positional arguments")
"""Groups of options that also mean something with --url."""


def add_command(commands: Commands) -> None:
    """Add `batch` to the command line."""
    parser = commands.add_parser(
        "batch",
        help="answer a file of requests, which survives crashes",
        description="Answer the requests of a file in OpenAI's batch format, with a model of its "
        "own or by a server (--url). Each answer is written when it is there. After a crash or "
        "Ctrl-C, the same command goes on with what is missing.",
        epilog="Exit codes: 0, all requests were answered; 3, some could not be, and the error "
        "file says why; 2, an option or the input is wrong; 1, the server or the worker is gone, "
        "or the disk is full; 130, Ctrl-C.",
        allow_abbrev=False,
    )
    group = parser.add_argument_group("batch")
    group.add_argument("input", type=Path, metavar="INPUT", help="file with a request on each line")
    group.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="where the answers go, in the order in which they are there; what it has already is "
        "not asked again",
    )
    group.add_argument(
        "--errors",
        type=Path,
        metavar="FILE",
        help="where requests go that cannot be answered, with the reason; to try them again, "
        "delete it; default: the output's name with .errors before its last suffix",
    )
    group.add_argument(
        "--url",
        type=_url,
        metavar="URL",
        help="a server that answers, such as http://HOST:8000; without it, this command loads the "
        f"model itself. Its API key is that of {_KEY}",
    )
    group.add_argument(
        "--at-once",
        type=values.positive,
        metavar="N",
        help="requests that are asked at the same time; default: 32 with --url, else as many as "
        "run at the same time",
    )
    group.add_argument(
        "--retries",
        type=values.non_negative,
        default=8,
        metavar="N",
        help="with --url: how often a request is asked again of a server that is not there or has "
        "no room, after 1, 2, 4 ... 30 seconds",
    )
    add_model_options(parser)
    add_adapter_options(parser)
    add_device_options(parser)
    add_scheduling_options(parser)
    add_worker_options(parser)
    parser.set_defaults(run=lambda options: run(options, parser))


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Answer a file; returns the exit code.

    Raises:
        OptionError: an option or the input is wrong.
        StartupError: the requests cannot be answered, or no longer.
    """
    if options.url is not None:
        _refuse_own_model(options, parser)
    with exit_immediately_on(signal.SIGINT):  # imported here: --help need not wait
        from glmserve.cli.batch.answering import answer_file
        from glmserve.cli.batch.files import BatchFiles

    errors = options.errors or _errors_beside(options.output)
    if len({path.absolute() for path in (options.input, options.output, errors)}) < 3:
        raise OptionError("the input, --output and --errors must be different files")
    files = BatchFiles(options.input, options.output, errors)
    return asyncio.run(answer_file(options, files, os.environ.get(_KEY, "")))


def _errors_beside(output: Path) -> Path:
    return output.with_name(f"{output.stem}.errors{output.suffix}")


def _url(text: str) -> str:
    """The beginning of a server's URLs, without /v1."""
    url = text.rstrip("/").removesuffix("/v1")
    scheme, found, rest = url.partition("://")
    if scheme not in ("http", "https") or not found or not rest or "?" in rest or "@" in rest:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL such as http://127.0.0.1:8000")
    return url


def _refuse_own_model(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    for group in parser._action_groups:
        for action in group._group_actions:
            value = getattr(options, action.dest, action.default)
            if group.title not in _OWN_GROUPS and value != action.default:
                raise OptionError(
                    f"{action.option_strings[0]} is for a model of this command's own; with --url "
                    "the server has the model"
                )
