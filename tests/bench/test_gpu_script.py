"""gpu.sh with a Python that only says what it is asked, and the report over what there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu_report import file_name, markdown, merge

BENCH = Path(__file__).parents[2] / "bench"
STAGES = ["environment", "install", "ceilings", "compile", "numerics", "gpu-tests", "kernels"]
STAGES += ["serving"]

KERNEL = {
    "operation": "rms_norm",
    "case": "1x4096",
    "us": 2.5,
    "gigabytes_per_second": 13.1,
    "teraflops": 0.0,
    "fraction": 0.25,
    "bound": "memory",
    "in_l2": True,
    "torch_ratio": 1.5,
}
SERVING = {
    "settings": {
        "shape": "tiny",
        "dtype": "bfloat16",
        "prompt_tokens": 1024,
        "output_tokens": 128,
    },
    "transformers_one_by_one": 30.0,
    "glmserve_one_by_one": 300.0,
    "glmserve_together_16": 4000.0,
    "latency": {
        name: {"inter_token_ms": 4.0, "step_floor_ms": 3.0, "step_of_floor": 0.75}
        for name in ("glmserve_one_by_one", "glmserve_together_16")
    },
}
GPU: dict[str, Any] = {
    "gpu": "NVIDIA H200",
    "torch": "2.11.0",
    "triton": "3.6.0",
    "ceilings": {"copy_bytes": 4.3e12, "bf16_flops": 788e12},
}


@pytest.fixture
def fake_python(tmp_path: Path) -> Path:
    """Fails in the kernels, and knows how to make the report."""
    path = tmp_path / "python"
    path.write_text(
        f"""#!/bin/sh
case "$*" in
    *kernels.py*) echo no kernels; exit 3 ;;
    *gpu_report.py*) exec {sys.executable} "$@" ;;
    *) echo "ran $1 $2" ;;
esac
"""
    )
    path.chmod(0o755)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a-1-py3-none-any.whl").touch()
    return path


def run(python: Path, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BENCH / "gpu.sh", out],
        env={**os.environ, "PYTHON": str(python), "WHEELS": str(python.parent / "wheels")}
        | environment,
        capture_output=True,
        text=True,
    )


def test_one_stage_fails_and_the_others_run(fake_python: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(fake_python, out)
    assert done.returncode == 1, done.stderr
    rows = [line.split("\t") for line in (out / "stages.tsv").read_text().splitlines()]
    assert sorted(row[0] for row in rows) == sorted(STAGES)
    assert [row[0] for row in rows if row[1] != "0"] == ["kernels"]
    assert "Failed: kernels (3)" in (out / "gpu.md").read_text()
    log = (out / "log.txt").read_text()
    assert "no kernels" in log
    assert "ran bench/vs_transformers.py --device" in log


def test_all_pass(fake_python: Path, tmp_path: Path) -> None:
    fake_python.write_text(fake_python.read_text().replace("exit 3", "exit 0"))
    assert run(fake_python, tmp_path / "out").returncode == 0


def test_a_dry_run_runs_nothing(fake_python: Path, tmp_path: Path) -> None:
    done = run(fake_python, tmp_path / "out", DRY_RUN="1")
    assert done.returncode == 0
    assert "ran " not in done.stdout
    for name in STAGES:
        assert f"== {name}, at most" in done.stdout


def test_the_report_of_everything(tmp_path: Path) -> None:
    (tmp_path / "ceilings.json").write_text(json.dumps(GPU))
    (tmp_path / "kernels.json").write_text(json.dumps({**GPU, "kernels": [KERNEL]}))
    (tmp_path / "serving.json").write_text(json.dumps(SERVING))
    (tmp_path / "stages.tsv").write_text("kernels\t0\t80\nserving\t124\t200\n")
    text = markdown(merge(tmp_path))
    assert "NVIDIA H200" in text
    assert "copies 4.30 TB/s, 788 TFLOP/s" in text
    assert "| 1 | 30 | 300 | 4.00 ms | 3.00 ms | 75% |" in text
    assert "| 16 | failed | 4,000 | 4.00 ms | 3.00 ms | 75% |" in text
    assert "| rms_norm | 1x4096* | 2.5 | 13 | 0.0 | 25% | memory | 1.50x |" in text
    assert "Failed: serving (time limit)" in text


def test_the_report_of_what_was_left(tmp_path: Path) -> None:
    (tmp_path / "kernels.json").write_text('{"gpu": "NVID')  # stopped while it wrote
    found = merge(tmp_path)
    assert found["stages"] == []
    assert markdown(found).startswith("No ceilings were measured")


def test_file_names() -> None:
    assert file_name("NVIDIA A100-SXM4-80GB") == "nvidia-a100-sxm4-80gb"


def test_every_kernel_is_listed_without_a_gpu() -> None:
    done = subprocess.run(
        [sys.executable, BENCH / "kernels.py", "--list", "--chip", "gfx942", "rms_norm"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["rms_norm", "1x4096+residual", "bfloat16"]
