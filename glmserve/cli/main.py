"""`glmserve COMMAND`: finds the command, runs it, and turns its failure into one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from glmserve import __version__
from glmserve.cli import bench, convert, doctor, serve
from glmserve.errors import StartupError


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that `arguments` (default: the process's own) name, and exit."""
    options = build_parser().parse_args(arguments)
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)[1:]
    try:
        sys.exit(options.run(options))
    except StartupError as error:
        print(f"glmserve: error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        print(f"glmserve: error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="glmserve",
        description="OpenAI-compatible, streaming server for the ChatGLM family.",
        epilog="Run 'glmserve serve' to serve the embedded tiny model.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"glmserve {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve.add_command(commands)
    doctor.add_command(commands)
    convert.add_command(commands)
    bench.add_command(commands)
    return parser
