"""llama.cpp's server, on a GGUF file of the same blocks."""

from __future__ import annotations

from pathlib import Path

from peer_servers.setup import PROGRAMS, Launch, Peer, Setup, run_once

_TYPES = {"bfloat16": "BF16", "w8a8": "Q8_0", "int4": "Q4_0"}


def _model(setup: Setup, kind: str) -> Path:
    return setup.models / f"{kind}.gguf"


def _prepare(setup: Setup, folder: Path) -> None:
    plain = _model(setup, "BF16")
    run_once(plain, folder / "bin/python", PROGRAMS / "write_gguf.py", setup.checkpoint, plain)
    kind = _TYPES[setup.precision]
    target = _model(setup, kind)
    run_once(target, folder / "build/bin/llama-quantize", plain, target, kind)


def _launch(setup: Setup, folder: Path, port: int) -> Launch:
    threads, requests = str(setup.threads), str(setup.most_requests)
    return Launch(
        [
            *(str(folder / "build/bin/llama-server"), "--port", str(port)),
            *("--model", str(_model(setup, _TYPES[setup.precision]))),
            *("--threads", threads, "--threads-batch", threads),
            *("--ctx-size", str(setup.cache_tokens), "--kv-unified", "--parallel", requests),
            *("--cache-ram", "0", "--no-webui"),
        ],
        port,
        {},
        {"cache_prompt": False},
    )


PEER = Peer(
    name="llama.cpp",
    precisions=_TYPES,
    program="build/bin/llama-server",
    prepare=_prepare,
    launch=_launch,
)
