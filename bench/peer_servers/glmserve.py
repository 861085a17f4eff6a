"""This project's own server, run by the Python that runs the comparison."""

from __future__ import annotations

import sys
from pathlib import Path

from peer_servers.setup import Launch, Peer, Setup

_QUANTIZATION = {"w8a8": "w8a8", "int4": "w4a8"}
"""Like the others', whose activations have 8 bits too."""


def _prepare(setup: Setup, folder: Path) -> None:
    """It reads the checkpoint that is there."""


def _launch(setup: Setup, folder: Path, port: int) -> Launch:
    name = _QUANTIZATION.get(setup.precision)
    quantization = ["--quantization", name] if name else []
    return Launch(
        [
            *(sys.executable, "-m", "glmserve", "serve", "--port", str(port)),
            *("--checkpoint", str(setup.checkpoint), "--skip-tokenizer-init"),
            *("--device", "cpu", "--dtype", "bfloat16", *quantization),
            *("--threads", str(setup.threads), "--no-prefix-cache"),
            *("--max-model-len", str(setup.most_tokens)),
            *("--kv-cache-tokens", str(setup.cache_tokens)),
            *("--max-batch-size", str(setup.most_requests)),
        ],
        port,
    )


PEER = Peer(
    name="glmserve",
    precisions={"bfloat16": "bfloat16", "w8a8": "w8a8", "int4": "w4a8, groups of 64"},
    program="",
    prepare=_prepare,
    launch=_launch,
)
