"""xFasterTransformer, without a server: its static batches.

Its wheels need AMX (maintainer in intel/xFasterTransformer#186) and refuse what is no Xeon: on a
Zen 4 with avx512_bf16, 1.8.2 prints "Must be running on the Intel Xeon platform" and ends.
"""

from __future__ import annotations

from pathlib import Path

from peer_servers.setup import PROGRAMS, Launch, Peer, Setup, run_once

_TYPES = {"bfloat16": "bf16", "w8a8": "w8a8", "int4": "int4"}


def _model(setup: Setup) -> Path:
    return setup.models / "xft"


def _prepare(setup: Setup, folder: Path) -> None:
    target = _model(setup)
    run_once(target, folder / "bin/python", PROGRAMS / "write_xft.py", setup.checkpoint, target)


def _launch(setup: Setup, folder: Path, port: int) -> Launch:
    program = str(PROGRAMS / "run_xft.py")
    return Launch(
        [str(folder / "bin/python"), program, str(_model(setup)), _TYPES[setup.precision]],
        environment={"OMP_NUM_THREADS": str(setup.threads)},
    )


PEER = Peer(
    name="xft",
    precisions=_TYPES,
    program="bin/python",
    prepare=_prepare,
    launch=_launch,
    cpu_flag="amx_bf16",
)
