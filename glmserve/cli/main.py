"""`glmserve COMMAND`: parses the command line and runs the command."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from glmserve import __version__
from glmserve.process.failure import exit_with, repair_streams
from glmserve.process.interrupts import exit_immediately_on


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command named by `arguments` (default: those of the process), and exit."""
    repair_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    exit_with(partial(_run, given), debug="--debug" in given)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    # Not before Ctrl-C can be answered: importing them takes tenths of a second.
    from glmserve.cli import (
        bench,
        chat,
        combine,
        compat,
        compile,
        convert,
        doctor,
        generate,
        golden,
        models,
        plan,
        pull,
        replay,
        serve,
        top,
    )
    from glmserve.cli.batch import command as batch_command

    parser: argparse.ArgumentParser = _Parser(
        prog="glmserve",
        description="OpenAI-compatible, streaming server for the ChatGLM family.",
        epilog="Run 'glmserve serve' to serve the embedded tiny model.",
        allow_abbrev=False,
    )
    parser.set_defaults(debug=False)
    parser.add_argument("--version", action="version", version=f"glmserve {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve.add_command(commands)
    top.add_command(commands)
    doctor.add_command(commands)
    chat.add_command(commands)
    generate.add_command(commands)
    pull.add_command(commands)
    models.add_command(commands)
    convert.add_command(commands)
    compile.add_command(commands)
    combine.add_command(commands)
    golden.add_command(commands)
    replay.add_command(commands)
    batch_command.add_command(commands)
    plan.add_command(commands)
    bench.add_command(commands)
    compat.add_command(commands)
    return parser


def _run(arguments: list[str]) -> int | None:
    with exit_immediately_on(signal.SIGINT):
        from glmserve.cli.hub_names import resolve_names

        parser = build_parser()
    options = parser.parse_args(arguments)
    options.arguments = arguments
    resolve_names(options, os.environ)
    level = logging.DEBUG if options.debug else logging.WARNING
    logging.basicConfig(format="glmserve: %(levelname)s: %(message)s", level=level)
    code: int | None = options.run(options)
    return code


class _Parser(argparse.ArgumentParser):
    """A command's parser: it adds --debug, and reports an error in one line."""

    def __init__(self, **settings: object) -> None:
        from glmserve.cli.options import HelpFormatter

        super().__init__(**settings, formatter_class=HelpFormatter)  # type: ignore[arg-type]
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show tracebacks of errors, and write more to the log",
        )

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {line}; see {self.prog} --help\n")
