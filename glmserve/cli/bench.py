"""`glmserve bench`: measurements of a model, one command each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from glmserve.cli import accuracy, calibrate, exam, load, summarize

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `bench` to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure a model: accuracy, summaries, exams, load, and how long steps take",
        description="Measurements of a model.",
    )
    measurements = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    accuracy.add_command(measurements)
    calibrate.add_command(measurements)
    summarize.add_command(measurements)
    exam.add_command(measurements)
    load.add_command(measurements)
