"""Clients in Python: each has an environment of its own, because their packages conflict."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.client_programs import run_script
from support.client_records import report_task
from support.server_process import ServerProcess

pytestmark = [pytest.mark.clients, pytest.mark.timeout(1200)]

PROGRAMS = Path(__file__).parent / "programs"
NAMES = sorted(path.stem.removeprefix("use_") for path in PROGRAMS.glob("use_*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_client(request: pytest.FixtureRequest, server: ServerProcess, name: str) -> None:
    for task in run_script(PROGRAMS / f"use_{name}.py", server.url, "glm-tiny"):
        report_task(request.node, task)
    server.wait_until_idle()
