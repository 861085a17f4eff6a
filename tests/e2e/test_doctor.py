"""`glmserve doctor` from outside, beside the server that it speaks of."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.device_plugin import install_device
from support.server_process import ServerProcess


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    languages = dict.fromkeys(("LC_ALL", "LC_MESSAGES", "LANG"), "")
    return subprocess.run(
        [sys.executable, "-m", "glmserve", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **languages, "PYTHONIOENCODING": "utf-8", **environment},
    )


def diagnosis(*arguments: str) -> dict[str, Any]:
    result = doctor(*arguments, "--json")
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["exit_code"] == result.returncode
    assert found["can_serve"] == (result.returncode == 0)
    return found


def test_the_server_has_what_was_planned(glm_tiny: ServerProcess) -> None:
    found = diagnosis("--dtype", "float32")
    plan = found["plans"][0]
    tokens = re.search(r"KV cache  ([\d,]+) tokens \((.*)\); context ([\d,]+),", glm_tiny.text)
    assert tokens
    assert tokens[1] == f"{plan['kv_cache_tokens']:,}"
    assert tokens[2] == f"{plan['kv_cache_bytes'] / 2**20:.1f} MiB"
    assert tokens[3] == f"{plan['max_context']:,}"
    weights = re.search(r"glm-tiny, 3.4 million parameters \((.*)\)", glm_tiny.text)
    assert weights
    assert weights[1] == f"{plan['weight_bytes'] / 2**20:.1f} MiB"
    assert found["checkpoint"]["num_parameters"] == 3_395_904
    kernels = found["machine"]["kernels"]
    assert f"{kernels} kernels" if kernels else "torch's kernels" in glm_tiny.text


@pytest.mark.slow
def test_a_plan_with_other_numbers() -> None:
    options = ("--kv-cache-dtype", "int8", "--quantization", "int4", "--kv-cache-memory", "5M")
    plan = diagnosis(*options)["plans"][0]
    with ServerProcess(*options) as server:
        assert f"KV cache  {plan['kv_cache_tokens']:,} tokens" in server.text


@pytest.mark.slow
def test_in_chinese() -> None:
    text = doctor(LANG="zh_CN.UTF-8").stdout
    assert "可以提供服务" in text
    assert "It can be served" in doctor(LANG="zh_CN.UTF-8", PYTHONIOENCODING="ascii").stdout


@pytest.mark.slow
def test_what_cannot_be_served_says_what_to_change() -> None:
    found = diagnosis("--kv-cache-tokens", "32", "--max-model-len", "64")
    assert found["exit_code"] == 2
    (problem,) = found["problems"]
    assert problem["message"].startswith("--kv-cache-tokens 32 is too little")
    command = shlex.split(found["advice"][0]["command"])
    assert command[:2] == ["glmserve", "serve"]
    assert diagnosis(*command[2:])["can_serve"]


@pytest.mark.slow
def test_every_problem_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EMBEDDED_CHECKPOINT, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer.model").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"strange_field": 1}))
    found = diagnosis("--checkpoint", str(folder))
    assert [p["exit_code"] for p in found["problems"]] == [1, 1]
    said = " ".join(p["message"] for p in found["problems"])
    assert "no tokenizer" in said
    assert "no weights" in said
    assert found["checkpoint"]["unknown_fields"] == ["strange_field"]


@pytest.mark.slow
def test_no_checkpoint_at_all() -> None:
    result = doctor("--checkpoint", "/no")
    assert result.returncode == 1
    assert "It cannot be served:\n  /no: no such file or folder" in result.stdout
    assert "CPU kernels" in result.stdout


@pytest.mark.slow
def test_a_device_without_plans() -> None:
    result = doctor("--device", "null")
    assert result.returncode == 0
    assert "This device does not say what a model takes." in result.stdout


@pytest.mark.slow
def test_a_plugin_that_kills_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    install_device("deadly", "DeadlyDevice", source, tmp_path, monkeypatch)
    result = doctor()
    assert result.returncode == 1
    assert "looks at the devices was killed by SIGKILL" in result.stdout
    assert result.stderr == ""
