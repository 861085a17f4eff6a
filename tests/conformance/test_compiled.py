"""The contract of devices, for those that serve compiled folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.contract_plugin import WITH_PLUGIN

LANES = "--total-len 256 --prompt-len 16 --batch-sizes 1,8"


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("device", "options"),
    [
        ("onnxruntime", LANES),
        ("onnxruntime:CPU,CPU", f"{LANES} --split 2"),
        ("openvino", "--dtype float32"),
    ],
)
def test_it_passes_the_contract(tmp_path: Path, device: str, options: str) -> None:
    pytest.importorskip("onnx")
    runtime = device.partition(":")[0]
    pytest.importorskip(runtime)
    python = sys.executable
    prepare = f"{python} -m glmserve compile {{checkpoint}} {{target}} --for {runtime} {options}"
    result = subprocess.run(
        [
            *(python, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(*WITH_PLUGIN, "--glmserve-device", device),
            *("--glmserve-prepare", prepare),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
