"""vLLM's build for CPUs, with the OpenMP runtime preloaded that its documentation asks for."""

from __future__ import annotations

import os
from pathlib import Path

from peer_servers.setup import PROGRAMS, Launch, Peer, Setup, run_once


def _prepare(setup: Setup, folder: Path) -> None:
    if setup.precision == "w8a8":
        target, program = _w8a8(setup), PROGRAMS / "write_w8a8.py"
        run_once(target, folder / "bin/python", program, setup.checkpoint, target)


def _w8a8(setup: Setup) -> Path:
    return setup.models / "compressed-tensors-w8a8"


def _launch(setup: Setup, folder: Path, port: int) -> Launch:
    checkpoint = _w8a8(setup) if setup.precision == "w8a8" else setup.checkpoint
    cores = sorted(os.sched_getaffinity(0))
    return Launch(
        [
            *(str(folder / "bin/vllm"), "serve", str(checkpoint), "--port", str(port)),
            *("--skip-tokenizer-init", "--dtype", "bfloat16", "--no-enable-prefix-caching"),
            *("--max-model-len", str(setup.most_tokens)),
            *("--max-num-seqs", str(setup.most_requests)),
        ],
        port,
        {
            "LD_PRELOAD": str(folder / "lib/libiomp5.so"),
            "OMP_NUM_THREADS": str(setup.threads),
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(str(core) for core in cores[: setup.threads]),
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        },
        {"return_token_ids": True},  # without a tokenizer it has no text to stream
    )


PEER = Peer(
    name="vllm",
    precisions={
        "bfloat16": "bfloat16",
        "w8a8": "W8A8 of compressed-tensors, output layer in bfloat16",
    },
    program="bin/vllm",
    prepare=_prepare,
    launch=_launch,
)
