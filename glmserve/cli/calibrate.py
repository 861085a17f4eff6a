"""`glmserve bench calibrate`: measures how long steps take, for `glmserve plan`."""

from __future__ import annotations

import argparse
import asyncio
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from glmserve.cli import values
from glmserve.cli.compare import check_comparable, compare
from glmserve.cli.measured_engine import check_model, measuring
from glmserve.cli.options import (
    add_checkpoint_options,
    add_device_options,
    add_load_format_option,
    config_of,
)
from glmserve.cli.plan_checks import check_folder
from glmserve.config import RunnerConfig
from glmserve.errors import OptionError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `calibrate` to the benchmarks."""
    parser = commands.add_parser(
        "calibrate",
        help="time of steps on this device, for glmserve plan",
        description="Measure how long steps of many sizes take on this device, and write a file "
        "for glmserve plan. Give the options that the servers will have. Nothing else should run "
        "meanwhile.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a new file to write"
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also measure other numbers of threads, and with several NUMA nodes one server on "
        "each and one over all, and print which options are best for what; on a CPU only",
    )
    group = parser.add_argument_group("model")
    add_checkpoint_options(group)
    add_load_format_option(group)
    group = parser.add_argument_group("scheduling")
    group.add_argument(
        "--max-batch-size",
        type=values.positive,
        default=64,
        metavar="N",
        help="largest number of requests that run at the same time",
    )
    group.add_argument(
        "--max-step-tokens", type=values.positive, metavar="N", help="token budget of one step"
    )
    group.add_argument(
        "--max-model-len",
        type=values.positive,
        metavar="N",
        help="most tokens of prompt and answer together",
    )
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, and write the file.

    Raises:
        OptionError: the file exists or cannot be written, the model has stages, or there is
            nothing to compare.
        StartupError: the model cannot be loaded.
    """
    if options.output.exists():
        raise OptionError(f"--output {options.output}: the file exists already")
    check_folder("--output", options.output)
    if options.pipeline_parallel_size > 1:
        raise OptionError(
            f"--pipeline-parallel-size {options.pipeline_parallel_size}: steps of stages overlap, "
            "which glmserve plan does not know; measure without stages"
        )
    if options.compare:
        check_comparable(options)
    runner = config_of(options)
    check_model(options, runner)
    asyncio.run(_calibrate(options, runner))
    print(f"written: {options.output}")
    if options.compare:
        print("\n".join(asyncio.run(compare(options))))


async def _calibrate(options: argparse.Namespace, runner: RunnerConfig) -> None:
    from glmserve import __version__
    from glmserve.capacity.calibration import FORMAT, Calibration, write_calibration

    async with measuring(options, runner) as measured:
        costs = await measured.measure()
        info = measured.engine.info
    # The server's own limit of a step is stricter than the runner's.
    budget = min(options.max_step_tokens or 2**31, info.limits.max_step_tokens)
    limits = msgspec.structs.replace(info.limits, max_step_tokens=budget)
    command = shlex.join(["glmserve", *options.arguments])
    calibration = Calibration(FORMAT, __version__, command, info.device, info.dtype, limits, costs)
    write_calibration(calibration, options.output)
