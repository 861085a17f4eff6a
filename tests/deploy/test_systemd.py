"""deploy/systemd: the units are sound, and a real systemd runs them."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support import nspawn

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICE, SOCKET = "glmserve.service", "glmserve.socket"
KEY = "a-key-of-this-test"
HEADERS = {"Authorization": f"Bearer {KEY}"}
LARGEST_EXPOSURE = 2.0

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


@needs_analyze
def test_the_units_have_no_mistake(tmp_path: Path) -> None:
    """`verify` ends with 0 even after an unknown key, so what it writes must be empty."""
    for unit in (SERVICE, SOCKET):
        text = (UNITS / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/opt/glmserve/bin/glmserve", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / SERVICE), str(tmp_path / SOCKET)],
        capture_output=True,
        text=True,
    )
    assert "glmserve" not in done.stderr + done.stdout


@needs_analyze
def test_the_service_is_hardened() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(UNITS / SERVICE)],
        capture_output=True,
        text=True,
    )
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    assert float(exposure[1]) <= LARGEST_EXPOSURE


def test_systemd_is_more_patient_than_the_server() -> None:
    text = (UNITS / SERVICE).read_text()
    watchdog = re.search(r"^WatchdogSec=(\d+)$", text, re.MULTILINE)
    step = re.search(r"--step-timeout (\d+)", text)
    assert watchdog is not None
    assert step is not None
    assert int(watchdog[1]) > int(step[1])


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
    return number


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[nspawn.Machine]:
    if nspawn.missing():
        pytest.skip(nspawn.missing())
    system = "/etc/systemd/system"
    files = {
        f"{system}/{SERVICE}": (UNITS / SERVICE).read_text(),
        f"{system}/{SOCKET}": (UNITS / SOCKET).read_text(),
        f"{system}/{SOCKET}.d/port.conf": f"[Socket]\nListenStream=\nListenStream={port}\n",
        "/etc/glmserve/keys.txt": f"{KEY} name=tester\n",
        "/etc/glmserve/glmserve.env": "GLMSERVE_OPTIONS=--served-model-name tiny\n",
    }
    enabled = {"multi-user.target": [SERVICE], "sockets.target": [SOCKET]}
    folder = tmp_path_factory.mktemp("machine")
    with nspawn.Machine(folder, files, enabled) as machine:
        machine.wait_for(SERVICE, "ActiveState", "active")
        yield machine


def chat(port: int) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    return httpx.post(url, json=body, headers=HEADERS, timeout=60)


@pytest.mark.deploy
def test_active_means_that_it_answers(machine: nspawn.Machine, port: int) -> None:
    assert machine.property_of(SERVICE, "StatusText") == "serving tiny"
    assert chat(port).status_code == 200


@pytest.mark.deploy
def test_it_runs_as_a_user_of_its_own_with_no_rights(machine: nspawn.Machine) -> None:
    status = Path(f"/proc/{machine.property_of(SERVICE, 'MainPID')}/status")
    text = machine.run("cat", str(status))
    assert not re.search(r"^Uid:\s+0\s", text, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", text, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", text, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", text, re.MULTILINE)
    assert "journal" in machine.run("ls", "/var/lib/private/glmserve")


@pytest.mark.deploy
def test_a_restart_refuses_no_connection(machine: nspawn.Machine, port: int) -> None:
    statuses: list[object] = []
    stopped = threading.Event()

    def knock() -> None:
        while not stopped.is_set():
            try:
                url = f"http://127.0.0.1:{port}/health/live"
                statuses.append(httpx.get(url, timeout=60).status_code)
            except httpx.HTTPError as error:
                statuses.append(repr(error))
            time.sleep(0.05)

    client = threading.Thread(target=knock)
    client.start()
    machine.run("systemctl", "restart", SERVICE)
    stopped.set()
    client.join()
    assert machine.property_of(SERVICE, "ActiveState") == "active"
    assert len(statuses) > 10
    assert set(statuses) == {200}


@pytest.mark.deploy
def test_a_killed_server_is_started_again(machine: nspawn.Machine, port: int) -> None:
    before = machine.property_of(SERVICE, "MainPID")
    machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", SERVICE)
    machine.wait_for(SERVICE, "NRestarts", "1")
    machine.wait_for(SERVICE, "ActiveState", "active")
    assert machine.property_of(SERVICE, "MainPID") != before
    assert chat(port).status_code == 200


@pytest.mark.deploy
def test_a_stop_lets_streams_finish(machine: nspawn.Machine, port: int) -> None:
    body = {"model": "tiny", "prompt": "x", "max_tokens": 300, "ignore_eos": True, "stream": True}
    url = f"http://127.0.0.1:{port}/v1/completions"
    with httpx.stream("POST", url, json=body, headers=HEADERS, timeout=60) as stream:
        lines = stream.iter_lines()
        next(lines)  # it has begun
        machine.run("systemctl", "stop", "--no-block", SERVICE, SOCKET)
        assert "data: [DONE]" in list(lines)
    machine.wait_for(SERVICE, "ActiveState", "inactive")
    assert machine.property_of(SERVICE, "Result") == "success"
