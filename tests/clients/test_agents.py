"""Coding agents as people start them, with their own long instructions and tools."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.client_programs import npm_install, run_program
from support.client_records import report_task
from support.server_process import ServerProcess

pytestmark = [pytest.mark.clients, pytest.mark.timeout(1200)]

PROGRAMS = Path(__file__).parent / "programs"
AGENTS = {
    "codex": "@openai/codex@0.171.0",
    "claude_code": "@anthropic-ai/claude-code@2.1.332",
}


@pytest.fixture(scope="module")
def long_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The embedded model with a context that holds an agent's instructions: 22,000 tokens."""
    checkpoint = tmp_path_factory.mktemp("long") / "glm-tiny"
    shutil.copytree(EMBEDDED_CHECKPOINT, checkpoint)
    config = checkpoint / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"seq_length": 65536}))
    with ServerProcess(str(checkpoint), "--dtype", "float32") as process:
        yield process


@pytest.mark.parametrize("name", AGENTS)
def test_agent(
    request: pytest.FixtureRequest, long_server: ServerProcess, tmp_path: Path, name: str
) -> None:
    npm_install(tmp_path, AGENTS[name])
    script = str(PROGRAMS / f"drive_{name}.py")
    command = [sys.executable, script, long_server.url, "glm-tiny", str(tmp_path)]
    for task in run_program(command, PROGRAMS):
        report_task(request.node, task)
    shutil.rmtree(tmp_path)  # it has 400 MB
