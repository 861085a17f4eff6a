"""Batches of a real server: they outlive its death, and say what the routes say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.batch_service import (
    answers_of,
    assert_same,
    chat_lines,
    contents,
    kill_through,
    line,
    mixed_requests,
    start_batch,
    text_of,
    wait_until,
)
from support.exhaustive import exhaustive
from support.server_process import ServerProcess


@pytest.mark.slow
def test_30_lines_and_the_deaths_of_the_worker_and_of_the_server(tmp_path: Path) -> None:
    """In `tests/soak` there are a thousand, of a model that computes."""
    lines = chat_lines(30, 400)
    options = ("--device", "null", "--max-batch-size", "4")
    disturbed, undisturbed = kill_through(
        tmp_path, lines, ["worker", "server"], iter([0.1, 0.4]), *options
    )
    assert disturbed.keys() == {f"request-{number}" for number in range(30)}
    assert disturbed == undisturbed


@pytest.mark.parametrize("count", [24, exhaustive(200)])
def test_batches_say_what_the_routes_say(glm_tiny: ServerProcess, count: int) -> None:
    url, requests = glm_tiny.url, mixed_requests(count)
    for path in {path for path, _ in requests}:
        bodies = {str(i): body for i, (own, body) in enumerate(requests) if own == path}
        lines = b"\n".join(line(number, path, **body) for number, body in bodies.items())
        state = wait_until(url, start_batch(url, lines, path), lambda _: False)
        assert state["status"] == "completed"
        assert_same(answers_of(url, state["output_file_id"]), alone(url, path, bodies), path)


@pytest.mark.slow
def test_the_command_says_what_the_routes_say(glm_tiny: ServerProcess, tmp_path: Path) -> None:
    requests = mixed_requests(200)
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [line(str(i), path, **body) for i, (path, body) in enumerate(requests)]
    source.write_bytes(b"\n".join(lines))
    command = [sys.executable, "-m", "glmserve", "batch", source, "-o", output]
    subprocess.run([*command, "--dtype", "float32"], check=True, capture_output=True, timeout=100)
    answers = contents(output.read_bytes().splitlines())
    for path in {path for path, _ in requests}:
        bodies = {str(i): body for i, (own, body) in enumerate(requests) if own == path}
        own = {number: answers[number] for number in bodies}
        assert_same(own, alone(glm_tiny.url, path, bodies), path)


def alone(url: str, path: str, bodies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the route says to each request."""
    with httpx.Client(timeout=60) as client:
        return {
            number: text_of(client.post(f"{url}{path}", json=body).json())
            for number, body in bodies.items()
        }
