"""deploy/container: the files are sound, and a built image runs as they say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

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
        if volume.startswith("..")
    ]
    assert len(mounted) == 2
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
