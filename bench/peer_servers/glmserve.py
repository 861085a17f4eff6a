"""This project's own server, run by the Python that runs the comparison."""

from __future__ import annotations

import sys
from pathlib import Path

from peer_servers.setup import Launch, Peer, Setup


def _prepare(setup: Setup, folder: Path) -> None:
    """It reads the checkpoint that is there."""


def _launch(setup: Setup, folder: Path, port: int) -> Launch:
    quantization = [] if setup.precision == "bfloat16" else ["--quantization", setup.precision]
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
    precisions={"bfloat16": "bfloat16", "w8a8": "w8a8", "int4": "int4"},
    program="",
    prepare=_prepare,
    launch=_launch,
)
