"""vllm-router in front of two replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.client_programs import run_script
from support.client_records import report_task
from support.server_process import ServerProcess

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).parent / "programs" / "route_vllm.py"


def test_router(request: pytest.FixtureRequest, server: ServerProcess) -> None:
    with ServerProcess("--dtype", "float32") as replica:
        for task in run_script(SCRIPT, server.url, "glm-tiny", replica.url):
            report_task(request.node, task)
