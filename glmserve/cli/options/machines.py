"""Options for a model whose ranks are on several machines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from glmserve.cli import values
from glmserve.cli.group.key import KEY_VARIABLE
from glmserve.cli.group.layout import ExecutorName


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "several machines" to a command."""
    group = parser.add_argument_group("several machines")
    group.add_argument(
        "--executor",
        choices=get_args(ExecutorName),
        default="auto",
        help="what starts the worker processes: local: this server, on this machine; torchrun: the "
        "launcher that has set RANK, WORLD_SIZE and MASTER_ADDR; lws: a LeaderWorkerSet, which has "
        "set LWS_LEADER_ADDRESS, LWS_GROUP_SIZE and LWS_WORKER_INDEX; ray: this server, as actors "
        "in a Ray cluster; auto: --num-machines decides; without it, if there is more than one "
        "rank, the launcher's variables; otherwise local",
    )
    group.add_argument(
        "--num-machines",
        "--nnodes",
        type=values.positive,
        default=1,
        metavar="N",
        help="spread the ranks equally over N machines. The same command line runs on each, with "
        "another --machine-rank",
    )
    group.add_argument(
        "--machine-rank",
        "--node-rank",
        type=values.non_negative,
        metavar="N",
        help="this machine's number, from 0. Machine 0 serves; the others run ranks for it",
    )
    group.add_argument(
        "--leader",
        "--dist-init-addr",
        type=values.address,
        metavar="HOST:PORT",
        help="where machine 0 is reached by the others, and the TCP port on which it listens for "
        "them; default with a launcher's variables: their address, and MASTER_PORT + 1 or 29600",
    )
    group.add_argument(
        "--group-key-file",
        type=Path,
        metavar="FILE",
        help="file with the secret that the machines share; the environment variable "
        f"{KEY_VARIABLE} may hold it instead. Without it all must be on one machine",
    )
    group.add_argument(
        "--machine-timeout",
        type=values.silence,
        default=10.0,
        metavar="SECONDS",
        help="a machine that is silent for so long is taken for lost. The server then waits for it "
        "without a limit, and its streams go on when it is back",
    )
