"""The command: its options and its output."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from glmserve.cli.doctor.diagnosis import Download
from glmserve.cli.doctor.unfetched import unfetched
from glmserve.cli.group.group import read_group
from glmserve.cli.options import (
    add_adapter_options,
    add_device_options,
    add_machine_options,
    add_model_options,
    add_scheduling_options,
    runner_config,
    with_official_names,
)
from glmserve.hub import HubName
from glmserve.hub.places import hub_places

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `doctor` to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="check whether a checkpoint can be served on this machine",
        description="Inspect this machine and a checkpoint without loading the model. Say whether "
        "`glmserve serve` with the same options will work, for how many users, and what to change "
        "if not. Exit code 0: it will work; 1: it will not; 2: an option is wrong. The report is "
        "in Chinese if LC_ALL, LC_MESSAGES or LANG begins with zh.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=partial(run, parser), keeps_hub_names=True)
    add_model_options(parser, positional=True)
    add_adapter_options(parser)
    add_device_options(parser)
    add_scheduling_options(parser)
    add_machine_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print the report as one line of JSON")


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Print the report; returns the exit code of `glmserve serve` with these options."""
    name = options.checkpoint
    if isinstance(name, HubName):
        with unfetched(name, hub_places(os.environ)) as (folder, download):
            options.checkpoint = folder
            options.load_format, options.skip_tokenizer_init = "dummy", True
            return _report(parser, options, download)
    return _report(parser, options, None)


def _report(
    parser: argparse.ArgumentParser, options: argparse.Namespace, download: Download | None
) -> int:
    config = runner_config(options)
    if group := read_group(options, config, os.environ):
        config = group.planned(config)
    # Imported here, so that --help does not wait for it.
    import msgspec

    from glmserve.cli.doctor.diagnose import diagnose
    from glmserve.cli.doctor.language import choose_language
    from glmserve.cli.doctor.report import render

    arguments = with_official_names(_serve_arguments(options.arguments), parser._actions)
    diagnosis = diagnose(config, options, arguments, download)
    if options.json:
        print(msgspec.json.encode(diagnosis).decode())
    else:
        language = choose_language(os.environ, sys.stdout.encoding)
        print(render(diagnosis, language))
    return diagnosis.exit_code


def _serve_arguments(arguments: Sequence[str]) -> list[str]:
    """The equivalent arguments of `glmserve serve`."""
    after = arguments[arguments.index("doctor") + 1 :]  # only flags can precede the command
    return [argument for argument in after if argument not in ("--json", "--debug")]
