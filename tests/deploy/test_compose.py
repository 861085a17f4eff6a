"""deploy/container/compose.yaml, run by podman-compose: two servers, HAProxy, Prometheus.

Debian's HAProxy and Prometheus stand for the images that the file names.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.test_proxies import BODY, STREAMS, read
from support.kubelet import IMAGE, PODMAN

CONTAINER = Path(__file__).parents[2] / "deploy" / "container"
TINY = Path(__file__).parents[2] / "glmserve" / "assets" / "glm-tiny"
COMPOSE = os.environ.get("GLMSERVE_TEST_PODMAN_COMPOSE") or shutil.which("podman-compose")
SERVICES = os.environ.get("GLMSERVE_TEST_SERVICES_IMAGE", "")
URL, MONITORING = "http://127.0.0.1:8080", "http://127.0.0.1:9090"
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (IMAGE and SERVICES and COMPOSE),
        reason="needs podman-compose and images; see deploy/test-setup.sh",
    ),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("compose")
    folder.parent.chmod(0o755)
    shutil.copytree(TINY, folder / "models" / "glm-tiny")
    images = {"proxy": SERVICES, "monitoring": SERVICES, "server-a": IMAGE, "server-b": IMAGE}
    lines = [f"  {name}: {{image: {image}}}" for name, image in images.items()]
    (folder / "images.yaml").write_text("\n".join(["services:", *lines, ""]))
    podman = folder / "podman"
    podman.write_text(f'#!/bin/sh\nexec {" ".join(PODMAN)} "$@"\n')
    podman.chmod(0o755)
    environment = {
        **os.environ,
        "GLMSERVE_MODELS": str(folder / "models"),
        "GLMSERVE_CHECKPOINT": "/models/glm-tiny",
    }
    files = ["--file", str(CONTAINER / "compose.yaml"), "--file", str(folder / "images.yaml")]
    command = [str(COMPOSE), "--podman-path", str(podman), *files]
    try:
        subprocess.run(
            [*command, "up", "--detach", "--no-build"], env=environment, check=True, timeout=100
        )
        wait_until(lambda: httpx.get(f"{URL}/health/ready").status_code == 200)
        wait_until(lambda: len(running_servers()) == 2)
        yield
    finally:
        subprocess.run(
            [*command, "down", "--volumes", "--timeout", "1"], env=environment, timeout=100
        )


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except (httpx.HTTPError, KeyError):
            pass
        time.sleep(0.2)
    raise AssertionError("the stack is not ready")


def running_servers() -> list[str]:
    """Servers that Prometheus has scraped."""
    query = {"query": 'up{job="glmserve"} == 1'}
    found = httpx.get(f"{MONITORING}/api/v1/query", params=query).json()["data"]["result"]
    return [series["metric"]["instance"] for series in found]


def test_prometheus_has_the_rules_and_scrapes_everything(stack: None) -> None:
    assert sorted(running_servers()) == ["server-a:8000", "server-b:8000"]
    wait_until(all_up)
    groups = httpx.get(f"{MONITORING}/api/v1/rules").json()["data"]["groups"]
    assert "GlmserveDown" in [rule["name"] for group in groups for rule in group["rules"]]


def all_up() -> bool:
    targets = httpx.get(f"{MONITORING}/api/v1/targets").json()["data"]["activeTargets"]
    return len(targets) == 3 and all(target["health"] == "up" for target in targets)


async def test_a_server_that_is_stopped_finishes_its_streams(stack: None) -> None:
    """No stream is cut and no request is refused, though one of two containers stops."""
    async with httpx.AsyncClient(base_url=URL, timeout=120) as client:
        streams = [asyncio.create_task(read(client)) for _ in range(STREAMS)]
        await asyncio.sleep(0.5)
        stop = [*PODMAN, "stop", "--time", "75", "glmserve_server-a_1"]
        stopping = await asyncio.create_subprocess_exec(*stop)
        for _ in range(4):
            streams += [asyncio.create_task(read(client)) for _ in range(3)]
            await asyncio.sleep(0.3)
        assert await stopping.wait() == 0
        assert {status for status, _ in await asyncio.gather(*streams)} == {200}
        models = (await client.get("/v1/models")).json()["data"]
        assert BODY["model"] in [model["id"] for model in models]
    inspect = [*PODMAN, "inspect", "--format", "{{.State.ExitCode}}", "glmserve_server-a_1"]
    assert await asyncio.to_thread(subprocess.check_output, inspect, text=True) == "0\n"
