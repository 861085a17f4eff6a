"""OpenVINO GenAI's continuous batching, without a server: its scheduler driven step by step."""

from __future__ import annotations

from pathlib import Path

from peer_servers.setup import PROGRAMS, Launch, Peer, Setup, run_once

_FORMATS = {"bfloat16": "bf16", "w8a8": "int8", "int4": "int4"}


def _model(setup: Setup) -> Path:
    return setup.models / f"openvino-{_FORMATS[setup.precision]}"


def _prepare(setup: Setup, folder: Path) -> None:
    target, program = _model(setup), PROGRAMS / "write_openvino.py"
    weights = _FORMATS[setup.precision]
    run_once(target, folder / "bin/python", program, setup.checkpoint, target, weights)


def _launch(setup: Setup, folder: Path, port: int) -> Launch:
    program = str(PROGRAMS / "run_openvino.py")
    return Launch(
        [str(folder / "bin/python"), program, str(_model(setup)), str(setup.threads), "1"]
    )


PEER = Peer(
    name="openvino",
    precisions={
        "bfloat16": "bf16",
        "w8a8": "int8 weights; the plugin quantises activations as it chooses",
        "int4": "int4 weights, embedding and output layer in int8; activations as above",
    },
    program="bin/python",
    prepare=_prepare,
    launch=_launch,
)
