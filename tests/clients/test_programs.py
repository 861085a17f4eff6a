"""Clients in Python: each program has an environment of its own, because their packages conflict.

`uv` makes it from the program's first lines, and keeps it in its cache.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.client_programs import install, run_program
from support.client_records import report_task
from support.server_process import ServerProcess

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]

PROGRAMS = Path(__file__).parent / "programs"
NAMES = sorted(path.stem.removeprefix("use_") for path in PROGRAMS.glob("use_*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_client(request: pytest.FixtureRequest, server: ServerProcess, name: str) -> None:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is missing; it is in the clients extra")
    script = f"use_{name}.py"
    install([uv, "sync", "--quiet", "--script", script], PROGRAMS)
    command = [uv, "run", "--quiet", "--script", script, server.url, "glm-tiny"]
    for task in run_program(command, PROGRAMS):
        report_task(request.node, task)
    server.wait_until_idle()
