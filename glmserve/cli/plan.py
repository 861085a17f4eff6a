"""`glmserve plan`: how many servers a load needs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.cli import values
from glmserve.cli.plan_checks import DRAWN, check_calibration, check_options
from glmserve.errors import OptionError

if TYPE_CHECKING:
    from glmserve.capacity.calibration import Calibration
    from glmserve.capacity.report import Plan, Targets
    from glmserve.capacity.workload import Load

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_MOST_SERVERS = 8
"""That are tried without --servers."""


def add_command(commands: Commands) -> None:
    """Add `plan` to the command line."""
    parser = commands.add_parser(
        "plan",
        help="how many servers a load needs",
        description="Answer how many servers a load needs: the scheduler itself plans all steps "
        "under a virtual clock, with the times that glmserve bench calibrate has measured. "
        "Requests are dealt out to the servers in turn.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "calibration", type=Path, metavar="CALIBRATION", help="file of glmserve bench calibrate"
    )
    _add_load_options(parser)
    _add_target_options(parser)


def _add_load_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    load = group.add_mutually_exclusive_group(required=True)
    load.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="recording of a server (serve --record): its requests, with the lengths of their "
        "answers",
    )
    load.add_argument(
        "--rate", type=values.rate, metavar="R", help="requests a second, which come independently"
    )
    group.add_argument(
        "--requests",
        type=values.positive,
        metavar="N",
        help="with --rate: number of requests; default: 500",
    )
    group.add_argument(
        "--prompt-tokens",
        type=values.length,
        metavar="N",
        help="with --rate: 128, uniform:64:256 (from, to) or normal:128:32 (mean, deviation); "
        "default: 256",
    )
    group.add_argument(
        "--output-tokens",
        type=values.length,
        metavar="N",
        help="with --rate: as --prompt-tokens, of answers; default: 128",
    )
    group.add_argument(
        "--seed", type=values.seed, metavar="N", help="with --rate: of the load; default: 0"
    )


def _add_target_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("targets and servers")
    group.add_argument(
        "--slo-ttft",
        type=values.seconds,
        metavar="SECONDS",
        help="95 of 100 requests get their first token within this",
    )
    group.add_argument(
        "--slo-itl",
        type=values.seconds,
        metavar="SECONDS",
        help="95 of 100 further tokens come within this after the one before",
    )
    group.add_argument(
        "--servers",
        type=values.positive,
        nargs="+",
        metavar="N",
        help="numbers of servers to try; default: 1, 2, ... until the targets are kept, 8 at most",
    )
    group.add_argument(
        "--max-batch-size",
        type=values.positive,
        nargs="+",
        metavar="N",
        help="values of serve --max-batch-size to try; default: the calibrated server's",
    )
    group.add_argument(
        "--max-step-time",
        type=values.seconds_or_auto,
        metavar="SECONDS",
        help="as of serve (default: auto)",
    )
    group.add_argument("--plot", type=Path, metavar="FILE", help="draw the result; .png or .svg")


def run(options: argparse.Namespace) -> int:
    """Print the table and the answer; returns 1 if no plan keeps the targets.

    Raises:
        OptionError: options contradict each other, or a file cannot be read.
    """
    from glmserve.capacity.calibration import read_calibration
    from glmserve.capacity.report import Targets, plot, table, verdict

    check_options(options)
    calibration = read_calibration(options.calibration)
    check_calibration(options, calibration)
    targets = Targets(options.slo_ttft, options.slo_itl)
    plans = _plans(options, calibration, targets)
    print(f"{calibration.device}, {calibration.dtype}\nmeasured by: {calibration.command}\n")
    for line in table(plans, targets):
        print(line)
    if options.plot is not None:
        plot(plans, targets, options.plot)
    code, said = verdict(plans, targets, calibration.limits)
    if said:
        print(f"\n{said}")
    return code


def _plans(options: argparse.Namespace, calibration: Calibration, targets: Targets) -> list[Plan]:
    """The plans that are asked for, or as many as it takes to keep the targets."""
    from glmserve.capacity.report import Plan
    from glmserve.capacity.simulation import Simulation
    from glmserve.capacity.workload import dealt
    from glmserve.config import SchedulerConfig

    loads = _loads(options, calibration.limits.max_context)
    most = max(options.servers or [1])
    if most > len(loads):
        raise OptionError(f"--servers {most}: the load has only {len(loads)} requests")
    plans: list[Plan] = []
    for count in options.servers or range(1, min(_MOST_SERVERS, len(loads)) + 1):
        for batch_size in options.max_batch_size or [calibration.limits.max_sequences]:
            config = SchedulerConfig(max_batch_size=batch_size, max_step_time=options.max_step_time)
            shares = dealt(loads, count)
            outcomes = [Simulation(calibration, config, share).run() for share in shares]
            plans.append(Plan(count, batch_size, outcomes))
        # What one server refuses, further ones refuse as well.
        if not options.servers and any(p.num_refused or p.meets(targets) for p in plans):
            break
    return plans


def _loads(options: argparse.Namespace, max_context: int) -> list[Load]:
    from glmserve.capacity.workload import drawn, recorded

    if options.trace is not None:
        return recorded(options.trace)
    given = {name: getattr(options, name) for name in DRAWN}
    load = {name: DRAWN[name] if value is None else value for name, value in given.items()}
    return drawn(
        options.rate,
        load["requests"],
        load["prompt_tokens"],
        load["output_tokens"],
        load["seed"],
        longest_prompt=max_context + 1,
    )
