"""transformers' `generate`: static batches, run by the Python that runs the comparison."""

from __future__ import annotations

import sys
from pathlib import Path

from peer_servers.setup import PROGRAMS, Launch, Peer, Setup


def _prepare(setup: Setup, folder: Path) -> None:
    """It reads the checkpoint that is there."""


def _launch(setup: Setup, folder: Path, port: int) -> Launch:
    program = str(PROGRAMS / "run_transformers.py")
    return Launch(
        [sys.executable, program, str(setup.checkpoint), str(setup.threads)],
        environment={
            "OMP_NUM_THREADS": str(setup.threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # far faster wherever anything else needs a core
        },
    )


PEER = Peer(
    name="transformers",
    precisions={"bfloat16": "bfloat16"},
    program="",
    prepare=_prepare,
    launch=_launch,
)
