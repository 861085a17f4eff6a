"""A device of another package, whose work is queued: found by its entry point and served."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.device_plugin import install_device
from support.server_process import ServerProcess

PLUGIN = '''
"""The null device, a step later: `execute` queues, and somebody else waits."""

import time
from concurrent.futures import ThreadPoolExecutor

from glmserve.devices.base import DeviceInfo
from glmserve.devices.null import NullDevice


class QueueingDevice:
    name = "queueing"

    def probe(self):
        return DeviceInfo(True, "made of nothing")

    def create_runner(self, config, progress):
        return QueueingRunner(NullDevice().create_runner(config, progress))


class QueueingRunner:
    def __init__(self, runner):
        self.info = runner.info
        self._runner = runner
        self._queue = ThreadPoolExecutor(max_workers=1)

    def execute(self, step, masks):
        constrained = any(s.sampling and s.sampling.constrained for s in step.sequences)
        given = masks() if constrained else []
        return self._queue.submit(self._work, step, given).result

    def _work(self, step, given):
        time.sleep(0.002)
        return self._runner.execute(step, lambda: given)

    def close(self):
        self._queue.shutdown()
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_device("queueing", "QueueingDevice", PLUGIN, tmp_path, monkeypatch)


def answers(url: str) -> list[str]:
    """What 24 clients get at once: greedy, sampled, penalised, constrained, of several lengths."""
    kinds: list[dict[str, object]] = [
        {},
        {"temperature": 1.0, "seed": 5},
        {"repetition_penalty": 1.3, "temperature": 0.0},
        {"guided_regex": "[a-f]{30}"},
    ]

    def ask(i: int) -> str:
        body = {
            "model": "glm-tiny",
            "prompt": f"number {i} " * (i + 1),
            "max_tokens": 10 + 3 * i,
            **kinds[i % len(kinds)],
        }
        response = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
        assert response.status_code == 200, response.text
        text: str = response.json()["choices"][0]["text"]
        return text

    with ThreadPoolExecutor(24) as pool:
        return list(pool.map(ask, range(24)))


@pytest.mark.slow
def test_a_device_that_works_ahead_gives_the_same_answers(plugin: None) -> None:
    with ServerProcess("--device", "null") as server:
        expected = answers(server.url)
    with ServerProcess("--device", "queueing", "--max-batch-size", "8") as server:
        assert answers(server.url) == expected
        assert answers(server.url) == expected
    assert len(set(expected)) > 12


@pytest.mark.slow
def test_an_accelerators_package_that_is_broken_breaks_no_other_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch would import it, as packages of accelerators ask for, and fail with it."""
    (tmp_path / "broken_backend.py").write_text("raise ImportError('libdriver.so is missing')")
    information = tmp_path / "broken_backend-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-backend\n")
    (information / "entry_points.txt").write_text("[torch.backends]\nx = broken_backend:load\n")
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.delenv("TORCH_DEVICE_BACKEND_AUTOLOAD", raising=False)  # ours, from another test
    alone = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, text=True)
    assert "libdriver.so is missing" in alone.stderr
    doctor = [sys.executable, "-m", "glmserve", "doctor", "--device", "cpu"]
    assert subprocess.run(doctor, capture_output=True, text=True).returncode == 0
    convert = [sys.executable, "-m", "glmserve", "convert", str(EMBEDDED_CHECKPOINT)]
    options = [str(tmp_path / "int8"), "--quantization", "int8"]
    assert subprocess.run([*convert, *options], capture_output=True).returncode == 0
    with ServerProcess("--device", "cpu") as server:
        body = {"model": "glm-tiny", "prompt": "Hello", "max_tokens": 3}
        assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 200
