"""Clients that run in Node: OpenAI's and Anthropic's packages, and Vercel's AI SDK."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.client_programs import npm_install, run_program
from support.client_records import report_task
from support.server_process import ServerProcess

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

SCRIPTS = Path(__file__).parent / "node"
PROGRAMS = ["openai.mjs", "agents.mjs", "anthropic.mjs", "ai-sdk.mjs"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts and the packages they need."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True)
    npm_install(folder)
    return folder


@pytest.mark.parametrize("script", PROGRAMS)
def test_client(
    request: pytest.FixtureRequest, server: ServerProcess, installed: Path, script: str
) -> None:
    for task in run_program(["node", script, server.url, "glm-tiny"], installed):
        report_task(request.node, task)
    server.wait_until_idle()
