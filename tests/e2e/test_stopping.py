"""Signals, deaths and hangs while the model loads: said in a line, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.device_plugin import install_device
from support.paused_process import Pause
from support.server_process import READY_TIMEOUT, ServerProcess, children, worker_of
from support.slow import slow

SLOW = '''
"""The null device, which does not get ready while the file `wait` is there."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from glmserve.devices.null import NullDevice


class SlowDevice(NullDevice):
    name = "slow"

    def create_runner(self, config, progress):
        Path(__file__).with_name("loading").touch()
        while Path(__file__).with_name("wait").exists():
            time.sleep(0.01)
        if Path(__file__).with_name("fail").exists():
            raise KeyError("something")
        return super().create_runner(config, progress)
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the files that tell it what to do."""
    install_device("slow", "SlowDevice", SLOW, tmp_path, monkeypatch)
    (tmp_path / "wait").touch()
    return tmp_path


def wait_for(path: Path, server: ServerProcess) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    while not path.exists():
        assert not server.has_ended, server.text
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_while_loading_ends_everything(
    plugin: Path, number: signal.Signals, code: int
) -> None:
    with ServerProcess("--device", "slow", wait=False) as server:
        wait_for(plugin / "loading", server)
        helpers = children(server.pid)
        assert helpers
        os.kill(server.pid, number)
        assert server.wait() == code
        assert server.text == ""
        assert not any(Path(f"/proc/{pid}").exists() for pid in helpers)


def test_a_worker_killed_while_loading(plugin: Path) -> None:
    with ServerProcess("--device", "slow", wait=False) as server:
        wait_for(plugin / "loading", server)
        os.kill(worker_of(server.pid), signal.SIGKILL)
        assert server.wait() == 1
        assert server.text.startswith("glmserve: error: the worker process was killed by SIGKILL (")
        assert server.text.count("\n") == 1


def test_a_worker_that_hangs_while_loading(plugin: Path) -> None:
    with ServerProcess("--device", "slow", "--load-timeout", "1", wait=False) as server:
        assert server.wait(60) == 1
        assert "it made no progress in loading within --load-timeout 1 while" in server.text
        assert server.text.count("\n") == 1


@pytest.mark.slow
def test_a_worker_that_hangs_after_a_restart(plugin: Path) -> None:
    (plugin / "wait").unlink()
    arguments = ("--device", "slow", "--load-timeout", "10", "--max-worker-restarts", "3")
    with ServerProcess(*arguments) as server:
        (plugin / "wait").touch()
        (plugin / "loading").unlink()
        os.kill(worker_of(server.pid), signal.SIGKILL)
        wait_for(plugin / "loading", server)
        deadline = time.monotonic() + READY_TIMEOUT
        while "made no progress in loading" not in server.text:
            assert time.monotonic() < deadline, server.text
            time.sleep(0.01)
        (plugin / "wait").unlink()
        while httpx.get(f"{server.url}/health/ready").status_code != 200:
            assert time.monotonic() < deadline, server.text
            time.sleep(0.05)


@pytest.mark.parametrize("debug", [False, True])
def test_a_device_that_fails(plugin: Path, debug: bool) -> None:
    (plugin / "wait").unlink()
    (plugin / "fail").touch()
    arguments = ("--debug",) if debug else ()
    with ServerProcess("--device", "slow", *arguments, wait=False) as server:
        assert server.wait() == 1
        last = server.text.splitlines()[-1]
        assert "the model could not be loaded: KeyError: 'something'; --debug shows where" in last
        assert ("Traceback" in server.text) == debug
        assert debug or server.text.count("\n") == 1


@pytest.fixture
def pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Pause]:
    folder = tmp_path / "pause"
    folder.mkdir()
    return partial(Pause, folder, monkeypatch=monkeypatch)


@pytest.mark.parametrize("module", ["glmserve.cli.doctor", "starlette.applications", "uvloop.loop"])
def test_ctrl_c_among_the_imports(module: str, pause: Callable[[str, str], Pause]) -> None:
    paused = pause("import", module)
    with ServerProcess("--device", "null", wait=False) as server:
        paused.wait()
        os.kill(server.pid, signal.SIGINT)
        assert server.wait() == 130
        assert server.text == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), slow(signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("event", "end"),
    [("import", "torch.nn"), ("shutil.copyfile", "tokenizer.model")],
    ids=["among the imports", "while it writes"],
)
def test_a_conversion_that_is_ended_leaves_nothing(
    tmp_path: Path,
    pause: Callable[[str, str], Pause],
    event: str,
    end: str,
    number: signal.Signals,
    code: int,
) -> None:
    target = tmp_path / "target"
    paused = pause(event, end)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "glmserve", "convert", str(EMBEDDED_CHECKPOINT)),
            *(str(target), "--quantization", "int4"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    paused.wait()
    assert (tmp_path / "target.partial").exists() == (event == "shutil.copyfile")
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["pause"]


def test_nobody_reads_what_is_announced() -> None:
    """The server goes on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "glmserve", "serve", "--device", "null", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    try:
        deadline = time.monotonic() + READY_TIMEOUT
        while True:
            assert time.monotonic() < deadline
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
    finally:
        process.terminate()
        said = process.stderr.read() if process.stderr else ""
        process.wait(30)
        if process.stderr:
            process.stderr.close()
    assert said == ""


@pytest.mark.slow
def test_without_home_and_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "/proc/nowhere")
    with ServerProcess("--device", "cpu") as server:
        body = {"model": "glm-tiny", "prompt": "x", "max_tokens": 2}
        assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 200


def test_without_assertions() -> None:
    """Python -OO strips assertions and docstrings."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-OO", "-m", "glmserve", "serve", "--device", "null"]
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        for line in process.stdout:
            if line.strip().startswith("curl"):
                break
        body = {"model": "glm-tiny", "messages": [{"role": "user", "content": "x"}]}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body)
        assert answer.status_code == 200
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert said == ""
