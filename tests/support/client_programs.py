"""Runs the programs of tests/clients, and collects the tasks that they have done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_ENVIRONMENT = {
    # Clients look for a key of their vendor.
    "OPENAI_API_KEY": "none",
    "ANTHROPIC_API_KEY": "none",
    # Some send statistics, or fetch prices.
    "DO_NOT_TRACK": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
}
_UNREACHABLE = ("Failed to fetch", "Failed to download", "ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN")
"""What uv and npm print if they cannot reach their registry."""


def install(command: list[str], folder: Path) -> None:
    """Run a command of uv or npm; skip the test if the registry cannot be reached."""
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=500
    )
    if done.returncode and any(sign in done.stderr for sign in _UNREACHABLE):
        pytest.skip(f"the registry cannot be reached: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr


def npm_install(folder: Path, *packages: str) -> None:
    """Install these packages, or those of the folder's package.json; skip without Node."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    options = ["--no-audit", "--no-fund", "--loglevel=error"]
    install([npm, "install", *options, *packages], folder)


def run_program(command: list[str], folder: Path) -> list[dict[str, str]]:
    """The tasks that the program has done, all of them without an error.

    Each has a client, its version, the API that it used, and what works.
    """
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=1000
    )
    tasks = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failed = [
        f"{task['api']}, {task['works']}: {task['error']}" for task in tasks if "error" in task
    ]
    assert not failed, "\n".join(failed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tasks, done.stdout + done.stderr
    return tasks


def _environment() -> dict[str, str]:
    """Without the path of the tests' own packages: a program has its own."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return inherited | _ENVIRONMENT
