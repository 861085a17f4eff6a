"""A converted checkpoint is served as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.server_process import ServerProcess


@pytest.mark.slow
def test_convert_and_serve(glm_tiny: ServerProcess, tmp_path: Path) -> None:
    target = str(tmp_path / "glm-tiny-int4")
    options = ("--quantization", "int4", "--group-size", "64")
    result = subprocess.run(
        [sys.executable, "-m", "glmserve", "convert", str(EMBEDDED_CHECKPOINT), target, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not result.stderr
    assert "gate_up" in result.stdout
    assert "6.5 MiB -> 3.2 MiB in 1 file" in result.stdout
    body = {
        "model": "glm",
        "messages": [{"role": "user", "content": "What is glmserve?"}],
        "temperature": 0,
    }
    with ServerProcess(
        "--checkpoint", target, "--dtype", "float32", "--served-model-name", "glm"
    ) as server:
        answers = [
            httpx.post(f"{s.url}/v1/chat/completions", json=body | {"model": name}, timeout=60)
            for s, name in ((server, "glm"), (glm_tiny, "glm-tiny"))
        ]
    small, exact = (a.json()["choices"][0]["message"]["content"] for a in answers)
    assert small == exact
