"""Compiled folders, served: many streams at once, and a worker that is killed among them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glmserve.config import EMBEDDED_CHECKPOINT, GraphAttention, GraphTarget
from support.compiled import compile_model
from support.crashing_worker import read_all
from support.exhaustive import exhaustive
from support.golden import NAMES
from support.golden_over_http import check_greedy_ids
from support.mixed_requests import requests_of_mixed_lengths
from support.server_process import ServerProcess
from support.slow import slow

LANES = ("--total-len", "768", "--prompt-len", "64", "--batch-sizes", "1,8,32")


def compiled(target: Path, runtime: str, *options: str) -> Path:
    """glm-tiny, by the command."""
    command = ["compile", str(EMBEDDED_CHECKPOINT), str(target), "--for", runtime, *options]
    result = subprocess.run(
        [sys.executable, "-m", "glmserve", *command], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"glmserve serve --checkpoint {target}"
    return target


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "options", "device"),
    [
        exhaustive("onnxruntime", (*LANES, "--split", "2"), "onnxruntime:CPU,CPU"),
        exhaustive("onnxruntime", LANES, "onnxruntime"),
        ("openvino", ("--dtype", "float32"), "openvino"),
    ],
)
async def test_32_streams_and_a_killed_worker(
    tmp_path: Path, runtime: str, options: tuple[str, ...], device: str
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(runtime)
    target = compiled(tmp_path / "glm-tiny", runtime, *options)
    bodies = [
        body | {"max_tokens": 1 + body["max_tokens"] // 3} for body in requests_of_mixed_lengths(32)
    ]
    for body in bodies[::8]:
        body |= {"response_format": {"type": "json_object"}}  # its tokens wait for masks
    with ServerProcess("--checkpoint", str(target), "--device", device) as server:
        alone = [(await read_all(server, [body]))[0][0] for body in bodies]
        streams, kills = await read_all(server, bodies, 1, seed=7)
        assert kills == 1
        for stream, expected in zip(streams, alone, strict=True):
            assert (stream.texts, stream.ends) == (expected.texts, expected.ends)
        server.wait_until_idle()
        assert "Traceback" not in server.text


FORMS: list[tuple[GraphTarget, GraphAttention, int]] = [
    ("openvino", "paged", 1),
    ("openvino", "lanes", 1),
    ("onnxruntime", "lanes", 1),
    ("onnxruntime", "lanes", 2),
]
"""Runtime, attention, and parts, each on a device of its own."""


@pytest.mark.parametrize(
    ("runtime", "attention", "parts", "name"),
    [
        slow("openvino", "paged", 1, "glm4_base"),
        *[exhaustive(*form, name) for form in FORMS for name in NAMES],
    ],
)
def test_greedy_ids_of_the_original(
    golden_models: Path,
    tmp_path: Path,
    runtime: GraphTarget,
    attention: GraphAttention,
    parts: int,
    name: str,
) -> None:
    folder, target = golden_models / name, tmp_path / "c"
    compile_model(folder, target, runtime, attention, dtype="float32", split=parts)
    device = f"{runtime}:{','.join(['CPU'] * parts)}"
    options = ("--checkpoint", str(target), "--skip-tokenizer-init", "--device", device)
    with ServerProcess(*options) as server:
        check_greedy_ids(server, folder)
