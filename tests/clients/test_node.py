"""Clients that run in Node: OpenAI's own package and Vercel's AI SDK."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.server_process import ServerProcess

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

SCRIPTS = Path(__file__).parent / "node"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts and the packages they need."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install the clients: {done.stderr[-500:]}")
    return folder


@pytest.mark.parametrize("script", ["openai.mjs", "ai-sdk.mjs"])
def test_client(server: ServerProcess, installed: Path, script: str) -> None:
    command = ["node", script, f"{server.url}/v1"]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok - " in done.stdout
    server.wait_until_idle()
