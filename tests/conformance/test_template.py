"""The template of a device plugin: built as a wheel, installed, checked, and served."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.contract_plugin import WITH_PLUGIN
from support.server_process import ServerProcess

TEMPLATE = EMBEDDED_CHECKPOINT.parent / "device-template"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the installed package, as pip would leave it."""
    folder = tmp_path_factory.mktemp("template")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*pip, "wheel", *options, "-w", str(folder), str(TEMPLATE)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", *options, "--target", str(folder), str(wheel)], check=True)
    return folder


@pytest.fixture
def found(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started from now on find it."""
    path = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


@pytest.mark.exhaustive
def test_it_passes_the_contract(found: None, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(*WITH_PLUGIN, "--glmserve-device", "example"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    last = result.stdout.strip().splitlines()[-1]
    assert result.returncode == 0, result.stdout
    assert " passed" in last
    assert "failed" not in last


@pytest.mark.slow
def test_it_serves(found: None) -> None:
    with ServerProcess("--device", "example", "--dtype", "float32") as server:
        body = {"model": "glm-tiny", "prompt": "你好", "max_tokens": 8, "ignore_eos": True}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60).json()
    assert answer["usage"]["completion_tokens"] == 8
