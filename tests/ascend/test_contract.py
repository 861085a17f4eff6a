"""The simulated NPU keeps the device contract: the checks of `pytest --glmserve-device`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.ascend_simulator.device import NAME, install
from support.contract_plugin import WITH_PLUGIN


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_it_passes_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    install(tmp_path, monkeypatch)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope=function\n")
    options = ["-q", "--glmserve-device", NAME, "--glmserve-dtype", dtype]
    plugins = [*WITH_PLUGIN, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
