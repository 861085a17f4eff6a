"""Options for the supervision of the worker process."""

from __future__ import annotations

import argparse

from glmserve.cli import values
from glmserve.config import SupervisionConfig


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "worker" to a command."""
    group = parser.add_argument_group("worker")
    group.add_argument(
        "--step-timeout",
        type=values.seconds,
        default=300.0,
        metavar="SECONDS",
        help="a worker is killed and replaced if a step takes longer; 0: never",
    )
    group.add_argument(
        "--load-timeout",
        type=values.seconds,
        default=900.0,
        metavar="SECONDS",
        help="a worker that makes no progress for so long while loading is killed; 0: never",
    )
    group.add_argument(
        "--max-worker-restarts",
        type=values.non_negative,
        default=5,
        metavar="N",
        help="replacements of a dead worker within ten minutes. Requests continue on the new "
        "worker. When one more dies, the server exits with code 1",
    )


def supervision_config(options: argparse.Namespace) -> SupervisionConfig:
    """The limits of the supervision."""
    return SupervisionConfig(
        step_timeout=options.step_timeout,
        load_timeout=options.load_timeout,
        max_restarts=options.max_worker_restarts,
    )
