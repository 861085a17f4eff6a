"""deploy/container: the files are sound, and a built image runs as they say."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.kubelet import IMAGE, PODMAN

CONTAINER = Path(__file__).parents[2] / "deploy" / "container"
_IGNORED = ("--ignore", "DL3008")
"""Versions of Debian's packages: the base image decides."""


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_hadolint(name: str) -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("needs hadolint, of the deploy extra")
    done = subprocess.run(
        ["hadolint", *_IGNORED, str(CONTAINER / name)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_names_files_that_exist() -> None:
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    assert len(mounted) == 3
    for path in mounted:
        assert (CONTAINER / path).is_file()
    build = compose["x-glmserve"]["build"]
    assert (CONTAINER / build["context"] / build["dockerfile"]).is_file()


def test_compose_gives_streams_the_time_that_they_have() -> None:
    yaml = pytest.importorskip("yaml")
    server = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["x-glmserve"]
    command = server["command"]
    drain = int(command[command.index("--drain-timeout") + 1])
    assert int(server["stop_grace_period"].removesuffix("s")) > drain


needs_image = pytest.mark.skipif(
    not IMAGE, reason="needs GLMSERVE_TEST_IMAGE, an image of deploy/container/Dockerfile"
)
CONFINED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--memory", "2g")


def podman(*arguments: str) -> str:
    done = subprocess.run([*PODMAN, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def container() -> Iterator[tuple[str, str]]:
    """Name and URL of a running container, as the Dockerfile's head says to run it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    name = f"glmserve-test-{port}"
    run = ["run", "--detach", "--no-healthcheck", "--network", "host", "--name", name, *CONFINED]
    podman(*run, "--security-opt", "no-new-privileges", IMAGE, "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health/ready").status_code == 200:
                    break
            time.sleep(0.1)
        yield name, url
    finally:
        podman("rm", "--force", "--time", "0", name)


@pytest.mark.deploy
@needs_image
def test_it_answers_without_rights(container: tuple[str, str]) -> None:
    name, url = container
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code == 200
    assert podman("exec", name, "id", "--user") == "10001"
    status = podman("exec", name, "cat", "/proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    with pytest.raises(AssertionError, match="Read-only file system"):
        podman("exec", name, "touch", "/opt/x")


@pytest.mark.deploy
@needs_image
def test_the_first_process_handles_signals(container: tuple[str, str]) -> None:
    name, url = container
    body = {"prompt": "x", "max_tokens": 200, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as stream:
        lines = stream.iter_lines()
        next(lines)
        podman("kill", "--signal", "TERM", name)
        assert "data: [DONE]" in list(lines)
    assert podman("wait", name) == "0"


@pytest.mark.deploy
@needs_image
def test_the_health_check_of_the_image(container: tuple[str, str]) -> None:
    name, url = container
    check = json.loads(podman("image", "inspect", "--format", "{{json .HealthCheck}}", IMAGE))
    kind, *command = check["Test"]
    assert kind == "CMD"
    port = url.rpartition(":")[2]
    podman("exec", name, *(argument.replace("8000", port) for argument in command))
    with pytest.raises(AssertionError, match="refused"):
        podman("exec", name, *(argument.replace("8000", "1") for argument in command))
